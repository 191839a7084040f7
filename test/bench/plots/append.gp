set title "Adding a message to a conversation"
set xlabel "messages that it has"
set ylabel "median latency, microseconds"
set logscale xy
set format x "10^{%L}"
