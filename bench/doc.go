// Bench measures wsrelay beside the bare machine and beside its peers, in one
// run: only ratios mean anything, so nothing is compared with another day.
//
//	make bench         # a quarter of an hour; writes bench/results and the documents
//	make bench-quick   # two minutes; prints the table
//	make bench-scarce  # six minutes; what --compress is worth where something is scarce
//
// The cases run in turn, round after round, so that what else the machine does
// hits all alike; what counts is the median. What arrives is compared with what
// was sent, byte for byte: a case that loses, doubles, alters or reorders lines
// is reported as wrong, however fast it was. What each loses when it is killed is
// in a table of its own.
//
//	input.go                  the lines, and the comparison
//	sandbox.go process.go     a directory and the processes of one run
//	feed.go                   ways to write lines
//	case.go                   the list of what is measured
//	floor.go intake.go chain.go latency.go idle.go kill.go   how it is measured
//	wsrelay.go syslogng.go rsyslog.go shell.go victorialogs.go bypath.go   what is measured
//	scarce.go link.go         the choices of --compress where something is scarce
//	goal.go result.go table.go plot.go machine.go documents.go   what is made of it
//	nothing/                  a program that does nothing
package main
