package wsrelay

import (
	"errors"
	"fmt"

	"wsrelay/relay"
	"wsrelay/relay/generic"
)

// plainMode is the options for servers that do not speak wsrelay.v1.
type plainMode struct {
	Mode           string   `default:"native" enum:"native,plain" placeholder:"native|plain" help:"native: to a receiver that speaks wsrelay.v1; each line is stored once. plain: to any other WebSocket server, a line a message; a line can arrive twice, and --plain-ack says what else it means. Default: ${default}."`
	PlainAck       string   `default:"ping" enum:"ping,receipt,none" placeholder:"ping|receipt|none" help:"What tells in plain mode that a line has arrived. ping: the answer to a WebSocket ping behind it; at least once as far as the next WebSocket hop, be it a proxy, and whatever is lost behind that is lost. receipt: an answer with the line's UID; at least once. none: that it was sent; what is under way when a connection breaks is lost. Default: ${default}."`
	PlainUID       string   `name:"plain-uid" placeholder:"NAME" help:"Give each line its UID, as member NAME of the JSON object that it is, or is made to be the 'message' of. Default: none; with --plain-ack receipt: uid."`
	PlainReceipt   string   `placeholder:"PATH" help:"Where in a JSON answer the UID is, or a list of them: a path of gjson, such as items.#.create._id. '-': nowhere, the answers come in the order of the lines, one for each. Default: NAME of --plain-uid."`
	PlainReceiptIf string   `placeholder:"PATH=VALUE" help:"An answer with another value at PATH refuses the line, which is then sent again; one without any is no answer."`
	PlainOpen      []string `sep:"none" placeholder:"TEXT" help:"Begin each connection with this message; {uid} stands for the last UID acknowledged, {host} for this host. Several are sent in turn."`
	PlainHeartbeat string   `placeholder:"TEXT" help:"Send this message at every --ping."`
	PlainProtocol  string   `name:"plain-subprotocol" placeholder:"NAME" help:"The WebSocket subprotocol to ask for. Default: none."`
}

func (m *plainMode) options() generic.Options {
	return generic.Options{
		Ack: generic.Ack(m.PlainAck), Protocol: m.PlainProtocol, Open: m.PlainOpen, Heartbeat: m.PlainHeartbeat,
		UID: m.PlainUID, Receipt: m.PlainReceipt, If: m.PlainReceiptIf,
	}
}

// check is what these options must be together, and with the others.
func (m *plainMode) check(r *reach) error {
	given := m.PlainAck != string(generic.AckPing) || m.PlainUID+m.PlainReceipt+m.PlainReceiptIf+m.PlainHeartbeat+m.PlainProtocol != "" || len(m.PlainOpen) > 0
	switch {
	case m.Mode == "native" && given:
		return usage(errors.New("--plain-… is for --mode plain"))
	case m.Mode == "native":
		return nil
	case r.KeyFile != "":
		return usage(errors.New("--key-file is for receivers that speak wsrelay.v1: a server of --mode plain proves nothing; it can ask for --token-file or --tls-cert"))
	}
	if _, err := generic.New(nil, m.options()); err != nil {
		return usage(fmt.Errorf("--mode plain: %w", err))
	}
	return nil
}

// dialect is what the relay is to speak, once the options were checked.
func (m *plainMode) dialect(q generic.Queue) relay.Dialect {
	if m.Mode != "plain" {
		return nil
	}
	p, err := generic.New(q, m.options())
	if err != nil {
		return nil // check has refused it: nothing is shipped
	}
	return p
}
