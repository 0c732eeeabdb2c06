package wsreceive

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"

	"wsrelay/internal/cli"
	"wsrelay/receiver/store/elastic"
)

// engineOptions is the options that say how Elasticsearch or OpenSearch is reached.
type engineOptions struct {
	Index             string `placeholder:"PREFIX" help:"Prefix of indices in the engine, wsrelay-PREFIX-YYYY.MM.DD. Default: logs."`
	DataStream        string `placeholder:"NAME" help:"Write to this data stream, such as logs-wsrelay-default, instead of daily indices; run setup with it first. The credentials need manage on it."`
	Pipeline          string `placeholder:"NAME" help:"Ingest pipeline of the engine for documents. It must keep the member wsrelay; lines that it drops are lost. Default: that of the index."`
	EngineAuth        string `placeholder:"FILE" help:"Credentials for the engine, in a file: 'USER:PASSWORD', 'ApiKey KEY' or 'Bearer TOKEN'. It is read again when it changes."`
	EngineAWS         string `name:"engine-aws" placeholder:"REGION" help:"Sign requests for Amazon OpenSearch Service in this region, with credentials from the environment, the shared AWS files, or the role of the container or machine."`
	EngineCA          string `name:"engine-ca" placeholder:"FILE" help:"Authorities (PEM) for the engine's certificate. Default: those of the system."`
	EngineFingerprint string `placeholder:"SHA256" help:"Fingerprint of the engine's authority, or certificate, as Elasticsearch prints it at its first start; instead of --engine-ca."`
	EngineCert        string `placeholder:"FILE" help:"Our certificate for the engine (PEM)."`
	EngineKey         string `placeholder:"FILE" help:"Its key (PEM)."`
	EngineGzip        string `default:"" enum:",auto,on,off" placeholder:"WHEN" help:"Compress documents on their way to the engine: auto (unless it is on this host), on, off. Default: auto."`
}

func (e *engineOptions) prefix() string { return cmp.Or(e.Index, "logs") }

// elasticAccess says how the engine is reached.
func (e *engineOptions) elasticAccess(log *slog.Logger) (elastic.Access, error) {
	a := elastic.Access{
		AuthFile: e.EngineAuth, AWSRegion: e.EngineAWS, CAFile: e.EngineCA,
		CAFingerprint: e.EngineFingerprint, CertFile: e.EngineCert, KeyFile: e.EngineKey, Gzip: e.EngineGzip,
	}
	if e.Index != "" && e.DataStream != "" {
		return a, errors.New("--index and --data-stream are two places for lines: use one of them")
	}
	for _, name := range []string{e.EngineAuth, e.EngineKey} {
		if name != "" {
			warnReadable(name, log)
		}
	}
	return a, nil
}

// need complains of a --to that is no engine.
func (e *engineOptions) need(to string) error {
	if isEngine(to) {
		return nil
	}
	return &cli.Error{
		Err: fmt.Errorf("--to %q is not an engine", withoutPassword(to)), Code: exitUsage,
		Hint: "use the address of Elasticsearch or OpenSearch: --to http(s)://HOST:PORT",
	}
}

// engineFailed is what a command says whose engine did not do as it was asked.
func engineFailed(to string, err error) error {
	return &cli.Error{
		Err: fmt.Errorf("%s: %w", withoutPassword(to), err), Code: 1,
		Hint: "what was printed is done; the command can be run again",
	}
}
