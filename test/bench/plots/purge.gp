set title "Purging a tenth of all sessions"
set xlabel "sessions"
set ylabel "rows a second"
set logscale x
set format x "10^{%L}"
set yrange [0:*]
