set title "From commit to GET"
set xlabel "saves a second, by four other clients"
set ylabel "milliseconds"
set logscale y
set xrange [0:*]
