set title "From commit to GET, four clients"
set xlabel "saves a second"
set ylabel "milliseconds"
set logscale y
set xrange [0:*]
