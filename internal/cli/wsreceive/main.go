// Package wsreceive is the receiver's command line.
package wsreceive

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"wsrelay/internal/cli"
	"wsrelay/internal/cli/options"
	"wsrelay/receiver/store/logs"
)

// Exit statuses, those of sysexits(3). Anything else that fails is 1.
const (
	exitUsage  = 64
	exitConfig = 78
)

type commandLine struct {
	Serve   serveCmd         `cmd:"" default:"withargs" help:"Receive lines from wsrelay and store them (the default)."`
	Search  searchCmd        `cmd:"" help:"Search the log database, also while wsreceive runs."`
	Backup  backupCmd        `cmd:"" help:"Copy the log database, also while wsreceive runs."`
	Verify  verifyCmd        `cmd:"" help:"Compare the lines in the log database with those that were acknowledged."`
	Setup   setupCmd         `cmd:"" help:"Prepare Elasticsearch or OpenSearch: templates, lifecycle policy, dashboards."`
	Replay  replayCmd        `cmd:"" help:"Index dead letters of Elasticsearch or OpenSearch again, after their cause is fixed."`
	Senders sendersCmd       `cmd:"" help:"Show the state of each sender, failing ones first."`
	Streams streamsCmd       `cmd:"" help:"List the owners of streams, and move a stream to another."`
	Passwd  passwdCmd        `cmd:"" help:"Make a line for --page-users from a password."`
	Cert    certCmd          `cmd:"" help:"Make a self-signed certificate and its key, for --tls-cert and --tls-key."`
	Version kong.VersionFlag `help:"Print the version."`
}

const description = `Receives the lines that wsrelay sends over WebSocket, stores each exactly once, and then acknowledges it with a receipt.

Every option of serve can also be given as WSRECEIVE_NAME in the environment and in the --config file. The command line has priority, then the environment, the file.

Exit status: 0 stopped by a signal; 64 usage; 78 configuration; 1 anything else.`

// Main runs the program and gives its exit status.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)   // a second signal ends the process at once
	signal.Ignore(syscall.SIGPIPE) // a reader of stdout that is gone is an error, not the end
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// run is the whole program but for the process around it. It returns the exit
// code. A ctx that ends shuts the receiver down.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c commandLine
	selected, err := parse(&c, args, stdout, stderr)
	switch {
	case errors.Is(err, errHelp):
		return 0
	case err == nil:
		selected.BindTo(ctx, (*context.Context)(nil))
		err = selected.Run(&streams{in: stdin, out: stdout, err: stderr})
	}
	if err != nil {
		return cli.Report(c.Serve.logger(stderr), err)
	}
	return 0
}

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// errHelp says that --help or --version has been answered.
var errHelp = errors.New("help was printed")

// parse gives the command that args ask for. Without any, and with
// nothing in the environment, it shows the help on stderr: to serve means to
// make a store, which nobody has asked for.
func parse(c *commandLine, args []string, stdout, stderr io.Writer) (*kong.Context, error) {
	configured := func(variable string) bool { return strings.HasPrefix(variable, "WSRECEIVE_") }
	answered, bare := false, len(args) == 0 && !slices.ContainsFunc(os.Environ(), configured)
	if bare {
		args, stdout = []string{"--help"}, stderr
	}
	k, err := parser(c, stdout, func(int) { answered = true }) // kong continues, and finds what else is wrong
	if err != nil {
		return nil, err
	}
	selected, err := k.Parse(args)
	if bare && answered {
		return nil, &cli.Error{
			Err:  errors.New("no command and no option"),
			Hint: "'wsreceive serve' serves with the defaults", Code: exitUsage,
		}
	}
	switch {
	case answered:
		return nil, errHelp
	case err != nil && options.Meant(k.Model, args) != "":
		return nil, &cli.Error{
			Err: err, Hint: "did you mean wsreceive " + options.Meant(k.Model, args) + "?",
			Code: exitUsage,
		}
	case err != nil:
		return nil, &cli.Error{Err: err, Hint: "wsreceive --help lists every option", Code: exitUsage}
	}
	return selected, nil
}

// usualConfig is the configuration of the service, which commands on its host read.
var usualConfig = "/etc/wsreceive/wsreceive.conf" // but for tests

// configOption is for commands that are about the wsreceive of this host.
type configOption struct {
	Config options.File `placeholder:"FILE" default:"${config}" env:"WSRECEIVE_CONFIG" help:"Read options such as --to from FILE, as serve does. Default: ${default}, if it exists."`
}

func parser(c *commandLine, stdout io.Writer, exit func(int)) (*kong.Kong, error) {
	src := &options.Sources{Env: "WSRECEIVE_", Only: []string{"config"}, Usual: usualConfig}
	return kong.New(c,
		kong.Name("wsreceive"), kong.Description(description), kong.Writers(stdout, io.Discard),
		kong.Exit(exit), kong.Bind(src), kong.Resolvers(src),
		kong.Vars{
			"version": cli.Build("wsreceive"), "logs": logsDefault, "journal": journalDefault,
			"stores": storeForms(), "config": usualConfig, "sorted": strconv.Itoa(logs.MostSorted),
		},
	)
}
