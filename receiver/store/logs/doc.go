// Package logs is the embedded log database: the storage engine of VictoriaLogs,
// used as a library, made fit to stand behind a journal. It is the only package
// that knows how the library stores rows.
//
//	DIR/                 0700, locked while a process uses it
//	  database/          the library's; partitions/YYYYMMDD/ holds the rows of a day
//	  database/MARK      the journal's mark, beside the rows that it speaks of
//	  database/CLOCK     the newest time that retention has believed
//	  blobs/YYYYMMDD     bytes of lines that their rows cannot return, appended
//	  skeletons          shapes of lines, one a row, appended
//	  damaged/           what was quarantined, and notes of what will be
//	  trash/             days on their way out
//	  query.sock         the query API for the command line
//	  command.sock       the same, of a command that has opened the store for itself
//
// # What holds
//
//  1. When Barrier returns, every row that was added before is on disk, and so are
//     the names of its stream. The library's snapshot alone is no such promise: it
//     leaves out what a background merge holds in memory at that moment. Barrier
//     asks the library what is still in memory, and repeats until it is nothing.
//  2. No row is dropped without an error. The library drops rows silently that are
//     outside of its retention or its limits, or whose day is not attached; each of
//     these is ruled out before, or found right after.
//  3. Blobs and skeletons are on disk before a row that needs them is added: the
//     library may write a row to disk at any time.
//  4. Retention is ours, not the library's, which would believe any clock.
//  5. The library ends the process when it reads something damaged or cannot write.
//     Before that, what it complained about is noted, and the next Open quarantines
//     it: a damaged part, the index of a day, or a day. If no name was given, or
//     Go ended the process, Open reads one day after the other. A full disk is not
//     damage.
//  6. The library works below the directory's descriptor: a directory that is moved
//     while it is used stays whole.
//
// The library's settings, its log and its storage are global: a process can have one
// store open at a time.
package logs
