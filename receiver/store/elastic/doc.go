// Package elastic is a [receiver.Store] on Elasticsearch or OpenSearch.
//
// # Guarantees
//
//  1. A line becomes one document, under its UID, however often it is sent and
//     through however many receivers: documents are made with op create in the
//     index of the UTC day on which the line entered its sender's queue. That
//     day is part of what the sender repeats, so a line always meets the same
//     index.
//
//  2. Commit returns a Result only when the engine has said of every document
//     that it is there. It never asks for a refresh; an engine whose
//     index.translog.durability is async may still lose it in a power cut.
//
//  3. An answer that is not about exactly the documents sent says nothing:
//     they are sent again.
//
//  4. A taken id counts as "there already" only if the CRC of the line that
//     holds it is the same. As long as it is not certain that a stream is new
//     to the engine, all ids of a Commit are looked up before any document is
//     created, so that a stream that has diverged writes nothing. It is certain
//     while the stream continues, in one session (see [Store.Begin]), where a
//     Commit ended that met no taken id. A document that has no CRC, because
//     something other than a Store has written or changed it, counts as the line
//     whose id it has, and the log says so.
//
//  5. A line that does not fit its index is stored all the same: without the
//     members that do not fit, or as text only, found by its text and with the
//     reason beside it. One that the index takes in no form is kept as a dead
//     letter, with the engine's reason; so is one whose index an administrator
//     has blocked for ten minutes, and one that no request may be large enough
//     for. What the engine refuses for everybody is its own trouble: an error,
//     and the lines stay with their senders. A dead letter that the engine
//     refuses, too, goes to Options.DeadFile, or is an error. A dead letter
//     stays one, however often its line is sent again, until [Store.Replay]
//     makes it the document that it should have been: exactly once.
//
//  6. Where an engine's reason quotes the request, which has credentials, or a
//     value, it is cut off: in errors, receipts and dead letters.
//
//  7. Nothing that a sender writes reaches an engine's parser as fields beyond
//     fixed bounds: see fit.go and names.go.
//
//  8. An engine has to prove, before its first document, that it refuses an id
//     that is taken and finds it: see proof.go.
//
//  9. With Options.DataStream, too, a line becomes one document, whatever is
//     rolled over meanwhile: see below.
//
// What the engine's answers mean:
//
//	item 200, 201            stored
//	item 409                 compared by CRC, in the index that it names: the same,
//	                         another, or gone: sent again
//	item 429, 5xx, block     sent again, these only; after three seconds a trial
//	item 404                 the index is made again, and they are sent again; the same
//	item 403, block of just  the same; from ten minutes on dead letter
//	its index
//	any other item           a trial
//	request 413, 400         sent in halves; a single document: a trial
//	request 429, 5xx,        all sent again; after three seconds a trial
//	no answer
//	any other request        a trial
//
// A status decides only how long to wait before it is asked whose fault the
// refusal is. What tells is behaviour. In a trial, where nothing else of the
// index was taken, an empty document is sent to the shard of the first one (its
// id is wsrelay-probe, and it is deleted again): refused, it is the engine's
// trouble, and an error. Else each document is sent again, and behind it, in the
// same request and under the same id, the same with less:
//
//	as it is    without what the refusal mentions   as text only   an empty document
//	   |                      |                          |                |
//	   '--- taken: stored     '--- taken: stored         '--- taken:      '--- taken: dead letter
//	                               with wsrelay.why           stored      '--- refused: an error
//
// Which form is stored does not matter to guarantee 1: all have the id and the
// CRC of the line, so a sender that sends it again finds it.
//
// # Data streams
//
// An id is unique in one backing index only, and a request that we have abandoned
// may reach the engine's shards after a rollover. So the engine itself holds
// each attempt to one backing index, by a pin:
//
//	"wsrelay": {"pin": {"000007": true}, ...}
//
// The template maps wsrelay.pin as a strict object without fields. Before the
// first document for a backing index, the field of its generation is added to the
// mapping of that index alone. So a document is taken by the backing index that it
// is pinned to, and refused by every other, however late it comes.
//
// A document whose id may have been sent before, by whatever receiver, is pinned
// to the write index only when its id is in no older backing index, and cannot
// come to be in one: these are sealed first, with the engine's write block, which
// it sets when the writes under way have ended, and then searched after a refresh.
// By induction over the backing indices, an id is in one of them at most. Deleted
// or repaired is nothing. Ids that nobody can have sent, which is all of them while
// a session continues, are not looked up, and then nothing is sealed.
//
// A backing index that is sealed stays so: its documents can be searched and
// deleted with the index, but not be changed. A document that the engine diverts
// to a failure store counts as refused. A probe has no routing, which data streams
// do not take; its id is chosen so that it falls to the document's shard.
//
// # Documents
//
// What is ours is below wsrelay:
//
//	wsrelay.sid    keyword  the stream
//	wsrelay.seq    long     the line's number in it
//	wsrelay.crc    keyword  CRC-32C of the line: 8 hexadecimal digits
//	wsrelay.at     date     when it entered the sender's queue
//	wsrelay.host   keyword  the sender's host
//	wsrelay.raw    binary   the line in base64, if it is not UTF-8; message has U+FFFD in its place
//	wsrelay.line   text     the line, if some of its members are no fields of the document
//	wsrelay.omitted keyword the names of these members, up to 20
//	wsrelay.why    text     why that is so, or why the line is text only
//	wsrelay.pin    object   in a data stream: the backing index that the document was for
//	wsrelay.gap    object   lines that will not come: n, why, maybe, from, to; the id is the GapID
//
// The rest has the names of the Elastic Common Schema where the line's form is
// known, so that one dashboard fits all:
//
//	a message as the websocket() block of syslog-ng sends it: @timestamp, message, host.name,
//	    process.name, process.pid, log.level, log.syslog.*; the line as event.original;
//	    fields.* if it is no request of nginx
//	a request as the sample log_format of nginx writes it, alone or in such a message:
//	    source.ip (source.address if it is none), url.original, url.path, url.query, url.domain,
//	    http.response.status_code, http.response.body.bytes, http.request.referrer,
//	    user_agent.original, event.duration (nanoseconds); alone, the line is message
//	any other JSON object: as it is, byte for byte, and @timestamp (when it entered the
//	    sender's queue) if it has none; only a bare value under a name that the schema has for
//	    an object becomes a field of it: "host":"web1" is "host":{"name":"web1"}
//	any other line, an object that has a member wsrelay itself, one nested deeper than 64 or
//	    larger than 1 MiB: message, and @timestamp
//
// Not a field, but left to wsrelay.line, is a member nested deeper than 20 levels (the parts of
// dotted names counted, as engines do), one with a name of more than 512 bytes, with an empty
// part in its name, or there twice; a number that is neither a 64-bit integer nor a double; a
// time that cannot be read; and a new name beyond 450 in one index, 150 of one stream, 100 of one
// document, or beyond 10 documents with new names at once and four a second: each new name
// changes the mapping, on which the whole cluster has to agree. Times that Go reads and engines
// do not are brought into one form.
//
// The mapping guesses no dates and no numbers in texts. It does not use ignore_malformed for what
// lines bring: a value that is ignored is not found, and nothing says so to who reads the line.
//
// A dead letter is in wsrelay-dead-YYYY.MM, a mapping that learns no fields: the
// line as message (or also raw), wsrelay, and error.{code,type,message,index}.
//
// # Bulks
//
// Documents of concurrent Commits are merged into bulks of at most 5 MiB and
// 5000 documents, 2 to 8 of them at once.
//
// # Proved
//
// On OpenSearch 3.8.0 and Elasticsearch 9.5.3 (the server without x-pack), one
// node, by scripts/engine.sh test: the fault table that it prints, and 272 odd
// lines, with types that the engine guesses and with those of setup, while another
// sender's commits continue; typed fields. The figures are in docs/engines.md. On
// OpenSearch 2.19.1 these, and create, 409, the same and another line, look-ups,
// gaps, thousands of fuzzed lines, 20,000 names, cut connections. On Elasticsearch
// 7.10.2 the odd, fuzzed and dotted lines and compression; its fault table runs up
// to some row only. Data streams: pins, write blocks
// and rollovers answer as described on OpenSearch 3.8.0 and Elasticsearch 9.5.3; the
// odd lines also go into a data stream of three shards, on OpenSearch 3.8.0;
// Elasticsearch 7.10.2 without x-pack has none. A proxy stands in for what one
// node without security does not do: 401, 413, answers cut short or about other
// documents. By a scripted engine only: one shard of several that is down,
// requests that one line spoils, item 429 and 5xx, 403 security. ILM and ISM stay
// unproved: their plugins cannot be had where the tests run.
package elastic
