package main

import (
	"cmp"
	"os"
	"strconv"

	"wsrelay/intake"
	"wsrelay/options"
)

// salvage finds out, from options that could not be parsed, where the queue is
// and where to log. There is no queue directory where that is not known: of an
// instance that is no name, and where a source of options that may name it could
// not be read.
func (c *config) salvage(args []string, src *options.Sources) {
	if fd := intake.FlagValue(args, "--options-fd", ""); fd != "" {
		n, _ := strconv.Atoi(fd)
		_ = src.ReadFD(n) // what is wrong is told already; a part is better than nothing
	}
	if name := intake.FlagValue(args, "--config", ""); name != "" {
		_ = src.ReadFile(name)
	}
	_ = src.ReadOther(os.Getenv("WSRELAY_CONFIG"))
	find := func(name string) string {
		return cmp.Or(intake.FlagValue(args, "--"+name, ""), src.Get(name))
	}
	*c = config{Instance: cmp.Or(find("instance"), "default"), QueueDir: find("queue-dir"), LogFile: find("log-file")}
	if c.QueueDir == "" && isInstance(c.Instance) && !src.Unread() {
		c.QueueDir = queueDir(c.Instance)
	}
}
