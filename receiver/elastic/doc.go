// Package elastic is a [receiver.Store] on Elasticsearch or OpenSearch.
//
// # Guarantees
//
//  1. A line becomes one document, under its UID, however often it is sent and
//     through however many receivers: documents are made with op create in the
//     index of the UTC day on which the line entered its sender's queue. That
//     day is part of what the sender repeats, so a line always meets the same
//     index.
//  2. Commit returns a Result only when the engine has said of every document
//     that it is there. It never asks for a refresh; an engine whose
//     index.translog.durability is async may still lose it in a power cut.
//  3. An answer that is not about exactly the documents sent says nothing:
//     they are sent again.
//  4. A taken id counts as "there already" only if the CRC of the line that
//     holds it is the same. As long as it is not certain that a stream is new
//     to the engine, all ids of a Commit are looked up before any document is
//     created, so that a stream that has diverged writes nothing. It is certain
//     while the stream goes on, in one session (see [Store.Begin]), where a
//     Commit ended that met no taken id. A document that has no CRC, because
//     something other than a Store has written or changed it, counts as the line
//     whose id it has, and the log says so.
//  5. A line that the engine refuses for its content is kept as a dead letter,
//     with the engine's reason; so is one whose index an administrator has
//     blocked for ten minutes, and one that no request may be large enough for.
//     A refusal that is not about the line is an error, and the line stays with
//     its sender. A dead letter that the engine refuses, too, goes to
//     Options.DeadFile, or is an error. A dead letter stays one, however often
//     its line is sent again, until [Store.Replay] makes it the document that it
//     should have been: exactly once.
//  6. Where an engine's reason quotes the request, which has credentials, or a
//     value, it is cut off: in errors, receipts and dead letters.
//
// What the engine's answers mean:
//
//	item 200, 201                           stored
//	item 409                                compared by CRC, in the index that it names: the same,
//	                                        another, or gone: sent again
//	item 429, 5xx, cluster_block_exception  sent again, these only; after three seconds an error
//	item 403, block of just its index       the same; from ten minutes on dead letter
//	item 400 of a document                  dead letter: document_parsing_, mapper_parsing_ and
//	                                        strict_dynamic_mapping_exception, and
//	                                        illegal_argument_exception that names a field or mapping
//	item 404                                error; the next try makes the index
//	any other item                          error
//	request 413, 400                        sent in halves; a single document: dead letter, or as above
//	request 429, 5xx, no answer             all sent again; after three seconds an error
//	any other request                       error
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
//	wsrelay.gap    object   lines that will not come: n, why, maybe, from, to; the id is the GapID
//
// The rest has the names of the Elastic Common Schema where the line's form is
// known, so that one dashboard fits all:
//
//	a message as the websocket() block of syslog-ng sends it: @timestamp, message, host.name,
//	    process.name, process.pid, log.level, log.syslog.*; the line as event.original;
//	    fields.* if it is no request of nginx
//	a request as the sample log_format of nginx writes it, by itself or in such a message:
//	    source.ip (source.address if it is none), url.original, url.path, url.query, url.domain,
//	    http.response.status_code, http.response.body.bytes, http.request.referrer,
//	    user_agent.original, event.duration (nanoseconds); by itself the line is message
//	any other JSON object: as it is, byte for byte, and @timestamp (when it entered the
//	    sender's queue) if it has none; only a bare value under a name that the schema has for
//	    an object becomes a field of it: "host":"web1" is "host":{"name":"web1"}
//	any other line, an object that has a member wsrelay itself, one nested deeper than 64:
//	    message, and @timestamp
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
// On OpenSearch 2.19.1 and Elasticsearch 7.10.2 themselves, one node each, by
// scripts/engine.sh test: the fault table that it prints; create, 409, the same
// and another line, look-ups, gaps; the dead letters of 14 kinds of lines; cut
// connections; typed fields. A proxy stands in for what one node without
// security does not do: 401, 413, answers cut short or about other documents.
// By a scripted engine only: bisection of 400, item 429 and 5xx, 403 security,
// and document_parsing_exception, which is Elasticsearch 8's.
package elastic
