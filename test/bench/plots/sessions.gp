set title "A call against the number of sessions"
set xlabel "sessions"
set ylabel "median latency, microseconds"
set logscale xy
set format x "10^{%L}"
