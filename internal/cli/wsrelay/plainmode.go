package wsrelay

import (
	"errors"
	"fmt"

	"wsrelay/relay"
	"wsrelay/relay/generic"
)

// plainMode is the options for servers that do not speak wsrelay.v1.
type plainMode struct {
	Mode           string   `default:"native" enum:"native,plain" placeholder:"native|plain" help:"native: send to a receiver that speaks wsrelay.v1; each line is stored once. plain: send to any other WebSocket server, one line a message; a line can arrive twice, see --plain-ack. Default: ${default}."`
	PlainAck       string   `default:"ping" enum:"ping,receipt,none" placeholder:"ping|receipt|none" help:"What acknowledges a line in plain mode. ping: the answer to a WebSocket ping after it; at least once as far as the next WebSocket hop, which can be a proxy. receipt: an answer with the line's UID; at least once. none: sending it; lines in flight are lost when a connection breaks. Default: ${default}."`
	PlainUID       string   `name:"plain-uid" placeholder:"NAME" help:"Add the UID to each line as member NAME of its JSON object. A line that is not an object becomes the member 'message' of one. Default: none; with --plain-ack receipt: uid."`
	PlainReceipt   string   `placeholder:"PATH" help:"Path (gjson) of the UID or of a list of UIDs in a JSON answer, such as items.#.create._id. '-': answers have no UID and come in the order of the lines, one for each. Default: NAME of --plain-uid."`
	PlainReceiptIf string   `placeholder:"PATH=VALUE" help:"Condition for an answer that accepts a line. With another value at PATH the line is refused and sent again; a message without a value there is not an answer."`
	PlainOpen      []string `sep:"none" placeholder:"TEXT" help:"Send this message first on each connection; {uid} stands for the last acknowledged UID, {host} for this host. Several are sent in turn."`
	PlainHeartbeat string   `placeholder:"TEXT" help:"Send this message as a heartbeat at each interval of --ping."`
	PlainProtocol  string   `name:"plain-subprotocol" placeholder:"NAME" help:"The WebSocket subprotocol to ask for. Default: none."`
}

func (m *plainMode) options() generic.Options {
	return generic.Options{
		Ack: generic.Ack(m.PlainAck), Protocol: m.PlainProtocol, Open: m.PlainOpen, Heartbeat: m.PlainHeartbeat,
		UID: m.PlainUID, Receipt: m.PlainReceipt, If: m.PlainReceiptIf,
	}
}

// check is what these options must be together, and with the others.
func (m *plainMode) check(r *connectOptions) error {
	given := m.PlainAck != string(generic.AckPing) || m.PlainUID+m.PlainReceipt+m.PlainReceiptIf+m.PlainHeartbeat+m.PlainProtocol != "" || len(m.PlainOpen) > 0
	switch {
	case m.Mode == "native" && given:
		return usageError(errors.New("--plain-… is for --mode plain"))
	case m.Mode == "native":
		return nil
	case r.KeyFile != "":
		return usageError(errors.New("--key-file is for receivers that speak wsrelay.v1: a server of --mode plain proves nothing; it can ask for --token-file or --tls-cert"))
	}
	if _, err := generic.New(m.options()); err != nil {
		return usageError(fmt.Errorf("--mode plain: %w", err))
	}
	return nil
}

// dialect is what the relay is to speak, once the options were checked.
func (m *plainMode) dialect() relay.Dialect {
	if m.Mode != "plain" {
		return nil
	}
	p, err := generic.New(m.options())
	if err != nil {
		return nil // check has refused it: nothing is shipped
	}
	return p
}
