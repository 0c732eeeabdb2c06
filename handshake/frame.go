package handshake

import "time"

// Subprotocol is the WebSocket subprotocol token (RFC 6455, 1.9) that both
// ends must agree on, and Version the number in hello.v.
const (
	Subprotocol = "wsrelay.v1"
	Version     = 1
)

// Limits that hold whatever the ends agree on.
const (
	MaxHello   = 16 << 10       // bytes of a message before the handshake is over
	MaxControl = 256 << 10      // bytes of one control message
	MaxHeader  = 4 << 10        // bytes of a data message's header line
	MaxLine    = 16 << 20       // bytes of one line, without its newline
	MaxLines   = 5000           // lines of one data message that a sender sends at most
	MaxMessage = 17 << 20       // bytes of one data message a receiver takes by default
	MaxSeq     = 1<<53 - 1      // sequence numbers stay exact in languages whose numbers are doubles
	MaxWait    = 24 * time.Hour // of every duration that an end is to wait for
)

// EncRaw is the encoding of a data message's payload that every receiver takes.
const EncRaw = "raw"

// Guarantees a receiver can give in welcome.
const (
	ExactlyOnce = "exactly-once"
	AtLeastOnce = "at-least-once"
)

// WebSocket close codes (RFC 6455, 7.4) with their meaning here.
const (
	CloseBadFrame         = 4400
	CloseUnauthenticated  = 4401
	CloseForbidden        = 4403
	CloseHandshakeTimeout = 4408
	CloseSuperseded       = 4409
	CloseRecordTooBig     = 4413
	CloseVersion          = 4426
	CloseQuota            = 4429
	CloseStoreDown        = 4503
)

// Frame is a control frame: the one JSON object of a TEXT message. Its member
// "t" names the type; members a type does not know are ignored.
type Frame interface {
	check() error
}

// Hello opens a session; the sender speaks first, whichever end dialled.
type Hello struct {
	V       int      `json:"v"`
	SID     string   `json:"sid"`
	Host    string   `json:"host"`
	Agent   string   `json:"agent,omitempty"`
	Boot    string   `json:"boot,omitempty"`  // differs at each start of the sender's process
	Nonce   string   `json:"nonce,omitempty"` // for chal and auth
	KID     string   `json:"kid,omitempty"`   // which key
	Mech    []string `json:"mech,omitempty"`
	Enc     []string `json:"enc,omitempty"` // what the sender can write; empty: raw
	Max     int64    `json:"max"`           // largest message the sender takes, bytes
	Acked   uint64   `json:"acked"`         // the sender's cursor: everything below is final
	Proof   *Proof   `json:"proof,omitempty"`
	Head    uint64   `json:"head"` // the next seq to be assigned: acked == head means nothing waits
	Pending Pending  `json:"pending"`
}

// Proof is the last receipt the sender holds.
type Proof struct {
	Seq uint64 `json:"seq"`
	UID string `json:"uid"`
	RT  string `json:"rt"`
}

// Pending is what waits in the sender's queue.
type Pending struct {
	N     uint64 `json:"n"`
	Bytes int64  `json:"bytes"`
}

// Chal asks the sender to prove that it holds its key.
type Chal struct {
	Nonce string `json:"nonce"`
	Mech  string `json:"mech"`
	CB    string `json:"cb"` // channel binding: "tls-exporter" (RFC 9266) or "none"
}

// Auth answers Chal.
type Auth struct {
	MAC string `json:"mac"`
}

// Welcome ends the handshake: data may flow.
type Welcome struct {
	MAC       string   `json:"mac,omitempty"`
	Session   string   `json:"session"`
	Win       Win      `json:"win"`
	Max       int64    `json:"max"`           // largest data message the receiver takes, bytes
	MaxRaw    int64    `json:"max_raw"`       // largest payload after decoding, bytes
	Enc       []string `json:"enc,omitempty"` // what the receiver can read; empty: raw
	HB        int64    `json:"hb"`            // ms between pings; 2.5 times this without a byte: dead
	Guarantee string   `json:"guarantee"`
	Store     string   `json:"store"`
	AckTo     int64    `json:"ack_to"` // ms the sender waits for a receipt
}

// Win is how much may be under way without a receipt. One batch always may.
type Win struct {
	Bytes   int64 `json:"bytes"` // of data messages as sent
	Batches int   `json:"batches"`
}

// Why a gap's records will never come.
const (
	GapOverflow = "overflow"
	GapExpired  = "expired"
	GapDamaged  = "damaged"
	GapUnsynced = "unsynced"
	GapOversize = "oversize"
	GapPurged   = "purged"
)

// Gap stands for N records from Seq on that will never come. It consumes their
// numbers and is acknowledged like data. Times are Unix milliseconds.
type Gap struct {
	B     uint64 `json:"b"`
	Seq   uint64 `json:"seq"`
	N     uint64 `json:"n"`
	Why   string `json:"why"`
	Maybe bool   `json:"maybe,omitempty"` // some may have been stored earlier
	At    int64  `json:"at"`
	From  int64  `json:"from,omitempty"`
	To    int64  `json:"to,omitempty"`
}

// Ack is the receipt: everything below Seq is final in the store.
type Ack struct {
	Seq     uint64     `json:"seq"`
	B       uint64     `json:"b"`   // the newest batch this receipt covers; 0: none yet
	New     int        `json:"new"` // of the batches since the last receipt: stored now
	Dup     int        `json:"dup"` // and there already
	Rej     []Rejected `json:"rej,omitempty"`
	RejMore int        `json:"rej_more,omitempty"` // rejected, but not listed in Rej
	Index   string     `json:"index,omitempty"`
	UID     *UIDs      `json:"uid,omitempty"`
	RT      string     `json:"rt,omitempty"`
	Win     *Win       `json:"win,omitempty"`
	Took    int64      `json:"took"` // ms in the store
}

// Rejected is a line that the store refused as a document of the main index.
// It is final all the same: it is kept in the dead-letter index.
type Rejected struct {
	Seq    uint64 `json:"seq"`
	Status int    `json:"status"`
	Error  string `json:"error"`
}

// MaxRejected bounds Ack.Rej, MaxRejectedError the bytes of its texts.
const (
	MaxRejected      = 100
	MaxRejectedError = 200
)

// UIDs are the ids of the first and the last document a receipt covers.
type UIDs struct {
	First string `json:"first"`
	Last  string `json:"last"`
}

// Busy reports that the receiver lives but its store keeps it waiting.
type Busy struct {
	MS  int64  `json:"ms"`  // for how long so far; for people, not for timers
	Why string `json:"why"` // store, quota or disk
}

// Codes of Nak.
const (
	NakCRC      = "crc"
	NakDecode   = "decode"
	NakOrder    = "order"
	NakTooBig   = "too_big"
	NakDiverged = "diverged"
)

// Nak refuses batch B: the sender goes back to Expect, and the receiver ignores
// data until it comes.
type Nak struct {
	B      uint64 `json:"b"`
	Code   string `json:"code"`
	Expect uint64 `json:"expect"`
	Max    int64  `json:"max,omitempty"`
}

// Bye announces the end of the session: no new data, receipts drain, then the
// connection is closed.
type Bye struct {
	Why     string `json:"why"` // idle, shutdown or drain
	AfterMS int64  `json:"after_ms,omitempty"`
}

// Err is, in words, why the connection is about to be closed with Code.
type Err struct {
	Code    int    `json:"code"`
	Msg     string `json:"msg"`
	Retry   bool   `json:"retry"`
	AfterMS int64  `json:"after_ms,omitempty"`
}

// Data is the header of a data message: a BINARY message of one JSON line, a
// newline, and the payload, whose decoded form is N lines, each with its
// newline.
type Data struct {
	B   uint64 `json:"b"`   // batch number within the session, from 1
	Seq uint64 `json:"seq"` // of the first line
	N   int    `json:"n"`
	At  int64  `json:"at"` // when the lines entered the queue, Unix ms
	Enc string `json:"enc"`
	Raw int    `json:"raw"` // bytes of the payload once decoded
	C   string `json:"c"`   // CRC of the payload as sent
}

// Time is when the lines entered the queue, in UTC.
func (d Data) Time() time.Time { return time.UnixMilli(d.At).UTC() }
