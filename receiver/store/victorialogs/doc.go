// Package victorialogs is a [receiver.Store] on a VictoriaLogs server: lines are
// final in a journal on this host, and become rows of the server.
//
//	DIR/               0700, locked while a process uses it
//	  CHECKPOINT       and journal/, see package journal
//	  MARK             the journal's mark
//	  skeletons        the shapes of lines, see package row
//	  long/YYYYMMDD    lines that no row of the server can hold, appended
//
// # What is promised, and what is not
//
// A server that answers 200 has the rows in memory. It writes them to disk some
// time later, which -inmemoryDataFlushInterval says, and has no way to ask for it.
// So a segment of the journal stays until
//
//   - ten of these intervals have passed since its last row was sent,
//   - the server has not started again since its first one was, and
//   - a query after that counts all of its rows.
//
// If the server has started again, or the count differs, the rows of every
// segment that is left are compared with what the server has, and those that are
// missing are sent again. So a server that is killed, wsreceive killed, or both at
// the same time, loses and doubles nothing. These are the limits:
//
//   - A server that takes longer than ten intervals to write rows, or whose disk
//     loses what was synced, loses lines that have a receipt.
//   - A request that was cut off is taken for ended five seconds later. Whatever
//     stands between both and delivers it after that doubles its lines.
//   - Rows that a user deletes on the server, or a server that is emptied or
//     restored, are noticed only in segments that are still in the journal.
//   - Rows are one line each and are not changed, but a line whose row is larger
//     than the server's -insert.maxLineSizeBytes has only its beginning there; all
//     of it is in the folder long.
//
// The rows of one server's tenant should come from one wsreceive: of a block of
// rows with more than 2,000 names of fields the server drops some silently, and
// package row can count the names of one wsreceive only.
package victorialogs
