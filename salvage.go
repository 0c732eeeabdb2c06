package main

import (
	"cmp"
	"os"
	"strconv"

	"wsrelay/intake"
)

// salvage finds out, from options that could not be parsed, where the queue is
// and where to log. An instance that is no name has no directory.
func (c *config) salvage(args []string, src *sources) {
	if fd, err := strconv.Atoi(intake.FlagValue(args, "--options-fd", "")); err == nil && src.fd == nil {
		_ = src.readFD(fd) // what is wrong is told already; a part is better than nothing
	}
	if name := intake.FlagValue(args, "--config", ""); name != "" && src.file == nil {
		_ = src.readFile(name)
	}
	find := func(name string) string {
		return cmp.Or(intake.FlagValue(args, "--"+name, ""), last(src.fd[name]), os.Getenv(envName(name)), last(src.file[name]))
	}
	*c = config{Instance: cmp.Or(find("instance"), "default"), QueueDir: find("queue-dir"), LogFile: find("log-file")}
	if c.QueueDir == "" && isInstance(c.Instance) {
		c.QueueDir = queueDir(c.Instance)
	}
}

func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}
