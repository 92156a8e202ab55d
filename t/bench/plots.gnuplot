# plots.gnuplot - figures.tsv as pictures: latency by size, publish cost by
# subscribers, all ratios to the machine's limits.
set terminal svg size 800,420 font "sans,13" background "white"
set datafile separator "\t"
set key top left
set grid ytics

rows(question, pattern) = sprintf("< awk -F '\\t' '$1 == \"%s\" && $2 ~ /%s/' %s", question, pattern, tsv)

set style data linespoints
set logscale y
set ylabel "one way, ns"
set output out."/latency.svg"
set title "One way between two processes that poll, payload untouched"
plot rows("latency", "^one way, [0-9]+ .?i?B$") using 4:xtic(substr(strcol(2), 10, 20)) \
         lw 2 pt 7 title "zcp", \
     "" using 8:xtic(substr(strcol(2), 10, 20)) lw 2 pt 5 title "bare cache-line ping-pong"

set output out."/touched.svg"
set title "One way, payload written and read in full"
plot rows("latency", "touched$") using 4:xtic(substr(strcol(2), 10, strlen(strcol(2)) - 8)) \
         lw 2 pt 7 title "zcp", \
     "" using 8:xtic(substr(strcol(2), 10, strlen(strcol(2)) - 8)) lw 2 pt 5 title "bare shared memory"

unset logscale y
set yrange [0:*]
set ylabel "publish, ns"
set output out."/scale.svg"
set title "Publishing a chunk, by subscribers"
plot rows("scale", "^publish, [0-9]+ subscribers") using 4:xtic(substr(strcol(2), 10, 30)) \
         lw 2 pt 7 title "zcp", \
     "" using 8:xtic(substr(strcol(2), 10, 30)) lw 2 pt 5 title "one subscriber, same run"
