package wsrelay

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/dustin/go-humanize"

	"wsrelay/buffer"
	"wsrelay/intake"
	"wsrelay/internal/cli"
	"wsrelay/internal/cli/options"
	"wsrelay/internal/codec"
)

// commandLine is the commands. The first is meant where none is named.
type commandLine struct {
	Run     config     `cmd:"" default:"withargs" help:"Send the lines on standard input to a receiver (the default)."`
	Status  statusCmd  `cmd:"" help:"Show the state of the relays on this machine. Exit status: 0 all is well, 1 something is wrong, 3 one does not run."`
	Upgrade upgradeCmd `cmd:"" help:"Let a running wsrelay continue as the newly installed program, without missing a line."`
	Check   checkCmd   `cmd:"" help:"Connect to the receiver, show the result of each step up to the welcome, and send no line."`
	Keygen  keygenCmd  `cmd:"" help:"Make a key for --key-file and for the receiver's --keys."`
	Queue   queueCmd   `cmd:"" help:"Inspect a queue, export its lines, or drop them."`

	Version kong.VersionFlag `help:"Print the version."`
}

// config is the options of run, under the names that they have on the command
// line, in the environment (WSRELAY_QUEUE_DIR), in a file and on --options-fd
// alike.
type config struct {
	connectOptions
	listenOptions
	metricsOptions

	Instance   string        `default:"default" help:"Name of this relay among those of the host: [A-Za-z0-9_.-], at most 64."`
	QueueDir   string        `placeholder:"DIR" help:"Directory of the queue on disk. Default: ${queue_dir}."`
	QueueLimit size          `default:"8GiB" placeholder:"SIZE" help:"Largest size of the queue on disk, at least 64MiB; never more than half of the free space and the queue together. Default: ${default}."`
	QueueFull  string        `default:"wait" enum:"wait,drop-oldest" placeholder:"wait|drop-oldest" help:"What happens at the limit. wait: stop reading until the receiver accepts lines. drop-oldest: drop the oldest lines, and deliver a document with their numbers. Default: ${default}."`
	QueueAge   time.Duration `name:"queue-max-age" placeholder:"DUR" help:"Drop lines that have waited longer than this, and deliver a document with their numbers. Default: none."`
	Sync       syncEvery     `default:"always" placeholder:"always|DUR" help:"always: sync every line to disk before it is sent. DUR, such as 1s: sync this often; a crash of the machine can lose the lines of that time. Default: ${default}."`
	Compress   string        `default:"auto" enum:"auto,${compressions}" help:"Compression of lines on disk and on the wire: auto (chosen by what is scarce: processor, disk or link), or one of: ${encodings}. Default: ${default}."`
	IdleClose  time.Duration `default:"60s" placeholder:"DUR" help:"Close the connection when it has made no progress for this long. Default: ${default}."`
	Ping       time.Duration `default:"20s" placeholder:"DUR" help:"Time between pings. A connection that receives no byte for 2.5 times as long is closed. Default: ${default}."`
	Drain      time.Duration `default:"5s" placeholder:"DUR" help:"How long to wait for delivery after the input has ended. Default: ${default}."`

	DrainRate bytesPerSecond `placeholder:"SIZE/s" help:"Send a backlog, lines older than 10 s, no faster than this, such as 2MiB/s. Lines keep their order, so new lines wait behind it: if they arrive faster than this rate, the backlog never ends. Default: no limit."`

	Confirm bool `help:"Write OK to standard output when ready to read, and then for each line that is on disk: the confirmMessages of rsyslog's omprog. Only with --keeper off, because the program that waits for OK sends unconfirmed lines again. No line may be empty."`

	Keeper string `default:"auto" enum:"auto,off" help:"auto: a second, tiny process holds the input pipe, so that nothing in it is lost when wsrelay is killed. On the command line or in the environment only. Default: ${default}."`

	UnreadDir string `placeholder:"DIR" help:"Directory in which syslog-ng's websocket() block leaves lines when wsrelay could not be started; wsrelay reads those of this instance."`
	ExitEnded int    `placeholder:"N" help:"Exit with status N, and no other, when the input has ended and wsrelay is done with it. syslog-ng's websocket() block uses this to recognize a program that cannot be started. On the command line only."`

	LogFile   string `placeholder:"FILE|journal" help:"Log to FILE, or to systemd's journal, instead of stderr. Default if stderr is /dev/null, as under syslog-ng: wsrelay.log in the queue directory."`
	LogLevel  string `default:"info" enum:"debug,info,warn,error" help:"Lowest level that is logged: debug, info, warn, error. Default: ${default}."`
	LogFormat string `default:"text" enum:"text,json" help:"Format of the log: text, json. Default: ${default}."`

	Config    options.File `placeholder:"FILE" env:"WSRELAY_CONFIG" help:"Read options from FILE, one 'name = value' a line, then from FILE.d/*.conf."`
	exposed   []string     // options with a secret that every local user can read
	OptionsFD options.FD   `name:"options-fd" placeholder:"N" help:"Read options, one 'name = value' a line, from the open descriptor N, so that a shell does not interpret the values. On the command line only."`
}

const description = `Sends the lines on standard input to a WebSocket receiver through a queue on disk. No line is lost or doubled when the network, the receiver or wsrelay itself fails.

Every option of run and check can also be given as WSRELAY_NAME in the environment, on --options-fd, and in the --config file; --config and --keeper only in the environment, --options-fd and --exit-ended in none of them. The command line has priority, then --options-fd, the environment, the file.

Exit status: 0 all delivered, or, after a signal, all on disk; 75 lines wait in the queue; 64 usage; 78 configuration; 1 anything else.`

var errHelp = errors.New("help was printed")

// parse gives the command that args, with all other sources, ask for.
func parse(c *commandLine, args []string, stdout io.Writer) (*kong.Context, error) {
	src := &options.Sources{Env: "WSRELAY_", Only: []string{"config", "options-fd", "keeper", "exit-ended"}}
	answered := false
	k, err := parser(c, src, stdout, func(int) { answered = true })
	if err != nil {
		return nil, err
	}
	command, err := k.Parse(args)
	meant := options.Meant(k.Model, args)
	switch {
	case answered:
		return nil, errHelp
	case err != nil && len(args) > 0 && args[0] == "queue":
		return nil, configError(err, "wsrelay queue --help shows what can be done with a queue", exitUsage)
	case meant != "":
		return nil, configError(fmt.Errorf("there is no command %q",
			strings.Join(args[:len(strings.Fields(meant))], " ")), "did you mean wsrelay "+meant+"?", exitUsage)
	case err != nil:
		c.Run.recoverMinimalConfig(args, src)
		return nil, usageError(err)
	case command.Selected().Name == "run":
		c.Run.exposed = exposed(args, src)
		return command, c.Run.check()
	}
	return command, nil
}

// recoverMinimalConfig finds out, from options that could not be parsed, where the queue is
// and where to log. There is no queue directory where that is not known: of an
// instance that is no name, and where a source of options that may name it could
// not be read.
func (c *config) recoverMinimalConfig(args []string, src *options.Sources) {
	if fd := intake.FlagValue(args, "--options-fd", ""); fd != "" {
		n, _ := strconv.Atoi(fd)
		_ = src.ReadFD(n) // the error is reported already; a part is better than nothing
	}
	if name := intake.FlagValue(args, "--config", ""); name != "" {
		_ = src.ReadFile(name)
	}
	_ = src.ReadOther(os.Getenv("WSRELAY_CONFIG"))
	find := func(name string) string {
		return cmp.Or(intake.FlagValue(args, "--"+name, ""), src.Get(name))
	}
	*c = config{
		Instance: cmp.Or(find("instance"), "default"), QueueDir: find("queue-dir"), LogFile: find("log-file"),
		UnreadDir: find("unread-dir"),
	}
	if c.QueueDir == "" && isInstance(c.Instance) && !src.Unread() {
		c.QueueDir = queueDir(c.Instance)
	}
}

func parser(c *commandLine, src *options.Sources, stdout io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("wsrelay"), kong.Description(description), kong.Writers(stdout, io.Discard),
		kong.Exit(exit), kong.Bind(src), kong.Resolvers(src),
		kong.Vars{"version": cli.Build("wsrelay"), "compressions": compressions(), "encodings": strings.ReplaceAll(compressions(), ",", ", "), "queue_dir": "/var/lib/syslog-ng/wsrelay/INSTANCE for root and where there is no HOME, else $XDG_STATE_HOME/wsrelay/INSTANCE"},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
}

func isInstance(name string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`).MatchString(name) // here: a keeper has no use for it
}

// check is what the options must be together.
func (c *config) check() error {
	if !isInstance(c.Instance) {
		return usageError(fmt.Errorf("--instance %q is not a name of letters, digits, '_', '.' and '-', at most 64",
			c.Instance))
	}
	if c.QueueDir == "" {
		c.QueueDir = queueDir(c.Instance)
	}
	if c.QueueLimit < buffer.MinLimit {
		return usageError(fmt.Errorf("--queue-limit %s is less than 64MiB", humanize.IBytes(uint64(c.QueueLimit))))
	}
	if c.Confirm && c.Keeper != "off" {
		return usageError(errors.New("--confirm goes with --keeper off"))
	}
	if c.LogFile == toJournal && c.LogLevel == "debug" {
		return usageError(errors.New("--log-file journal and --log-level debug: a syslog-ng that reads the journal would hand each record to wsrelay, which would log that"))
	}
	if err := c.metricsOptions.check(c.AllowInsecure); err != nil {
		return err
	}
	if c.Listen != "" {
		return c.listenOptions.check(&c.connectOptions)
	}
	return c.connectOptions.check()
}

// unread is where lines of earlier pipes are, if that was said.
func (c *config) unread(log *slog.Logger) intake.Unread {
	return intake.Unread{Dir: c.UnreadDir, Log: log, Ours: func(shell []byte) bool {
		dir := cmp.Or(options.OfShell(shell, "queue-dir"), c.QueueDir)
		return options.OfShell(shell, "instance") == c.Instance && dir == c.QueueDir
	}}
}

// delivers reports whether lines can leave the queue.
func (c *config) delivers() bool { return len(c.URL) > 0 || c.Listen != "" }

// queueDir is where an instance keeps its queue by default. For root, and for a
// service without a home, such as syslog-ng -u USER, that is where SELinux lets a
// child of syslog-ng write; never a place that depends on the working directory.
func queueDir(instance string) string {
	if os.Geteuid() == 0 {
		return rootQueue(instance)
	}
	return userQueue(instance)
}

func rootQueue(instance string) string { return filepath.Join("/var/lib/syslog-ng/wsrelay", instance) }

func userQueue(instance string) string {
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "wsrelay", instance)
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "wsrelay", instance)
	}
	return rootQueue(instance)
}

// codec is what --compress names; nil: auto, or, where the options could not be read,
// nothing.
func (c *config) codec() *codec.Codec {
	if c.Compress == noCompression {
		return new(codec.Raw)
	}
	if named, ok := codec.Named(c.Compress); ok {
		return &named
	}
	return nil
}

// noCompression is what --compress calls codec.Raw.
const noCompression = "none"

// compressions are the values of --compress but auto, for kong.
func compressions() string {
	return strings.ReplaceAll(strings.Join(codec.Names(), ","), codec.Raw.String(), noCompression)
}

// size is a number of bytes, written as 8GiB or 500MB.
type size int64

func (s *size) UnmarshalText(b []byte) error {
	n, err := humanize.ParseBytes(string(b))
	if err != nil || n > 1<<62 {
		return fmt.Errorf("%q is not a size such as 8GiB", b)
	}
	*s = size(n)
	return nil
}

// bytesPerSecond is a rate, written as 2MiB/s.
type bytesPerSecond size

func (r *bytesPerSecond) UnmarshalText(b []byte) error {
	text, ok := strings.CutSuffix(string(b), "/s")
	if err := (*size)(r).UnmarshalText([]byte(text)); err != nil || !ok || *r < 1 {
		return fmt.Errorf("%q is not a rate such as 2MiB/s", b)
	}
	return nil
}

// syncEvery is a duration, or 0 for always.
type syncEvery time.Duration

func (s *syncEvery) UnmarshalText(b []byte) error {
	if string(b) == "always" {
		*s = 0
		return nil
	}
	d, err := time.ParseDuration(string(b))
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is neither 'always' nor a duration such as 1s", b)
	}
	*s = syncEvery(d)
	return nil
}
