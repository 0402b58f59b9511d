# Reads what go test -v prints and lets through what belongs on a screen:
# packages, failures, and what a test that failed has written. Of a long log
# that is the last part, and everything that the test itself said in it: its
# errors and logs, and the reports of the race detector. What a program says
# as it dies is let through whole. Ends with the code of a last line "exit N".
#
# Tests that run side by side take turns; "=== NAME" and its like say whose.

BEGIN { MOST = 20000; KEEP = 10000 }

/^exit [0-9]+$/ { code = $2; next }

/^=== (RUN|PAUSE|CONT|NAME) / { now = top($3); dying = 0; next }

/^ *--- (PASS|SKIP|FAIL): / {
	dying = 0
	if (/^ *--- FAIL/) {
		show(top($3))
		say($0)
	}
	if (/^---/) { # of the whole test
		forget($3)
		now = ""
	}
	next
}

/^PASS$/ { next }

/^(ok  |FAIL|\?   )(\t|$)/ { # the end of a package
	dying = 0
	show("")
	for (t in tail) {
		if (/^FAIL/) show(t) # it had no end of its own
		forget(t)
	}
	now = ""
	say($0)
	next
}

/^(panic|fatal error): / { show(now); dying = 1 }

dying { say($0); next }

{
	tail[now] = tail[now] $0 "\n"
	if (length(tail[now]) > MOST) shorten(now)
}

END { exit code }

function say(line) { print line; fflush() }

# top is the test of a sub-test.
function top(name) { sub(/\/.*/, "", name); return name }

function show(t) {
	printf "%s%s", said[t], tail[t]
	forget(t)
}

function forget(t) { delete said[t]; delete tail[t]; delete mine[t]; delete race[t] }

# shorten leaves of all but the last part of a test's log what the test said:
# "    file.go:12: text", with lines that are indented further if there are more.
function shorten(t,    cut, n, i, lines) {
	cut = length(tail[t]) - KEEP
	cut += index(substr(tail[t], cut), "\n") - 1
	n = split(substr(tail[t], 1, cut - 1), lines, "\n")
	tail[t] = substr(tail[t], cut + 1)
	for (i = 1; i <= n; i++) {
		if (lines[i] == "==================") {
			race[t] = !race[t]
			mine[t] = 1
		} else {
			mine[t] = race[t] || lines[i] ~ /^ +[^ ]+\.go:[0-9]+: / || mine[t] && lines[i] ~ /^        /
		}
		if (mine[t]) said[t] = said[t] lines[i] "\n"
	}
}
