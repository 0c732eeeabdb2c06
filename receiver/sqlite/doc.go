// Package sqlite is the embedded store of the receiver: one SQLite file, no
// server, nothing to install. It holds every line exactly once and finds it
// again by its words.
//
// # What holds
//
//  1. Documents, gaps and the cursor of their stream become durable in one
//     transaction (WAL journal, synchronous=FULL). After a crash at any point
//     the cursor and the documents agree.
//  2. A document's rowid is its UID in another form, stream number << 40 |
//     seq, so a line that is sent again meets itself. Stream numbers are never
//     used twice.
//  3. "There already" means the same line: the CRC-32C that is stored must be
//     that of the line that came. If one differs, nothing of that Commit is
//     stored.
//  4. A line comes back byte for byte, whatever its bytes are.
//  5. A cursor never moves backward.
//  6. Search finds every line that is committed, at once.
//
// # The file
//
//	streams    number, sid, host, cursor, documents, retired, newest
//	documents  id, at, host, crc, line       one row for each line
//	runs       first, last, minute           ids of documents of one minute
//	gaps       id, stream, seq, n, why, …    one row for each gap record
//	unindexed  first, last                   ids of documents not yet in words
//	words      full-text index (FTS5) over the words of host and line
//
// Times are Unix milliseconds. line is TEXT where it is UTF-8 without NULs, so
// that the sqlite3 shell shows and searches it, and BLOB otherwise. The file is
// created with mode 0600. Streams number up to 2^23-1, their lines up to
// 2^40-1; what exceeds that is refused.
//
// # One writer
//
// One goroutine owns the only connection that writes. It merges the Commits
// that wait into one transaction: while one is being synced to disk the next
// gathers. The full-text index is filled in the time it has left, at least a
// thirtieth of all, in short transactions of its own, so ingest runs at full rate
// and the index follows. What the index lacks is listed in unindexed; Search
// reads those documents themselves, in the same snapshot, so it never misses a
// line, it is only slower while much is not indexed.
//
// # Search
//
// A [Query] is a tree. What of it the index can answer is asked there, and every
// document that comes of it is held against the tree again, so what fields mean
// is decided in one place and lines that are not indexed yet are no exception.
// runs says which ids belong to a time, and how many lines a minute has.
//
// # Retention
//
// With [Options].Retain the oldest runs are deleted, in short transactions
// between the Commits, with half of the time at most. The index keeps the room of
// what is deleted until it is merged as a whole, so that is done after every
// eighth or so of the store; meanwhile a store may be larger than its limit by
// about a quarter. Pages that become free are used again; what exceeds an eighth
// of the file is given back to the file system. A line that comes older than the
// limit is stored, receipted, and deleted soon after.
//
// Several processes may open one file: readers work beside the writer, and
// writers take turns. While a Store is open, the process must not open and
// close its file by other means: that would drop SQLite's POSIX locks. A copy
// for safe keeping is made by Backup.
package sqlite
