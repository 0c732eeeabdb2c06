package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is a record of where this runs, with dir's file system and the versions
// of what is compared.
func (b *suite) machine() record {
	what := []string{fmt.Sprintf("%d cores of %s", runtime.NumCPU(), fieldOf("/proc/cpuinfo", "model name"))}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		what = append(what, fmt.Sprintf("%.0f GiB of memory", float64(info.Totalram)*float64(info.Unit)/(1<<30)))
	}
	var fs unix.Statfs_t
	if unix.Statfs(b.dir, &fs) == nil {
		what = append(what, fileSystem(fs.Type))
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	words := []string{"Linux " + string(bytes.TrimSpace(release)), runtime.Version()}
	for _, program := range []string{"/usr/sbin/syslog-ng", os.Getenv(fluentBit.variable), os.Getenv(vector.variable)} {
		if out := firstLine(program, "--version"); out != "" {
			words = append(words, out)
		}
	}
	if b.rsyslog() != "" {
		p := b.rsyslogCommand("-v")
		out, _ := p.Output()
		version, _, _ := strings.Cut(string(out), " (")
		words = append(words, strings.Join(strings.Fields(version), " "))
	}
	return record{
		Machine: strings.Join(what, ", "), Software: strings.Join(words, ", "),
		Commit: firstLine("git", "describe", "--always", "--dirty"), Date: time.Now().UTC().Format(time.DateOnly),
	}
}

// fileSystem names those on which a sync means something, and warns of that on
// which it does not.
func fileSystem(magic int64) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "XFS"
	case unix.BTRFS_SUPER_MAGIC:
		return "Btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs (a sync costs nothing: set TMPDIR to a directory on a disk)"
	}
	return fmt.Sprintf("file system %#x", magic)
}

func fieldOf(path, name string) string {
	text, _ := os.ReadFile(path)
	_, rest, _ := strings.Cut(string(text), name)
	rest, _, _ = strings.Cut(rest, "\n")
	return strings.Trim(rest, "\t :")
}

func firstLine(program string, args ...string) string {
	out, _ := exec.Command(program, args...).Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
