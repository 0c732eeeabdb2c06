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
//     Commit ended that met no taken id.
//  5. A line that the engine refuses for its content is kept as a dead letter,
//     with the engine's reason. A refusal that is not about the line is an
//     error, and the line stays with its sender.
//  6. Where an engine's reason quotes the request, which has credentials, or a
//     value, it is cut off: in errors, receipts and dead letters.
//
// What the engine's answers mean:
//
//	item 200, 201                           stored
//	item 409                                compared by CRC: the same, another, or gone: sent again
//	item 429, 5xx, cluster_block_exception  sent again, these only; after three seconds an error
//	item 400 of a document                  dead letter: document_parsing_, mapper_parsing_ and
//	                                        strict_dynamic_mapping_exception, and
//	                                        illegal_argument_exception that names a field or mapping
//	any other item                          error
//	request 413, 400                        sent in halves; at a single document as above
//	request 429, 5xx, no answer             all sent again; after three seconds an error
//	any other request                       error
//
// # Documents
//
// A line that is a JSON object goes through byte for byte, with our members in
// front: wsrelay, and @timestamp (when it entered the sender's queue) if it has
// none. Any other line becomes message, with @timestamp; so does an object that
// has a member wsrelay itself, and one nested deeper than 64. All that is ours
// is below wsrelay, because a name like host or event may be an object in one
// line and text in the next, and then the engine would refuse one of them:
//
//	wsrelay.sid    keyword  the stream
//	wsrelay.seq    long     the line's number in it
//	wsrelay.crc    keyword  CRC-32C of the line: 8 hexadecimal digits
//	wsrelay.at     date     when it entered the sender's queue
//	wsrelay.host   keyword  the sender's host
//	wsrelay.raw    binary   the line in base64, if it is not UTF-8; message has U+FFFD in its place
//	wsrelay.gap    object   lines that will not come: n, why, maybe, from, to; the id is the GapID
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
// By the tests on OpenSearch 2.19.1 and Elasticsearch 7.10.2 themselves, one
// node each (scripts/engine.sh test): create, 409, the same and another line,
// look-ups, gaps; the dead letters of 14 kinds of lines and that they are found
// by reason; index write block, read-only, flood-stage block, closed index and
// shard limit: error while it lasts, complete afterwards; randomly cut
// connections, and SIGKILL of the engine under load with a restart: documents =
// lines. By a scripted engine only: 413, bisection of 400, item 429 and 5xx,
// 401 and 403, answers cut short or about other documents, document_parsing_
// exception, which is Elasticsearch 8's.
package elastic
