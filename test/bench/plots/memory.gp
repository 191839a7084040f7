set title "Memory against clients"
set xlabel "clients"
set ylabel "megabytes"
set logscale y
set xrange [0:*]
