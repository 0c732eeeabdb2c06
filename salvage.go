package main

import (
	"cmp"
	"strconv"

	"wsrelay/intake"
	"wsrelay/options"
)

// salvage finds out, from options that could not be parsed, where the queue is
// and where to log. An instance that is no name has no directory.
func (c *config) salvage(args []string, src *options.Sources) {
	if fd, err := strconv.Atoi(intake.FlagValue(args, "--options-fd", "")); err == nil {
		_ = src.ReadFD(fd) // what is wrong is told already; a part is better than nothing
	}
	if name := intake.FlagValue(args, "--config", ""); name != "" {
		_ = src.ReadFile(name)
	}
	find := func(name string) string {
		return cmp.Or(intake.FlagValue(args, "--"+name, ""), src.Get(name))
	}
	*c = config{Instance: cmp.Or(find("instance"), "default"), QueueDir: find("queue-dir"), LogFile: find("log-file")}
	if c.QueueDir == "" && isInstance(c.Instance) {
		c.QueueDir = queueDir(c.Instance)
	}
}
