// Package journal is a [receiver.Store] that makes lines final with one sync, and
// then brings them into a database that makes nothing durable line by line.
//
//	Commit ──▶ record ──▶ segment ──▶ receipt
//	                         │ applier
//	                         ▼
//	                      Database ── barrier ──▶ mark ──▶ CHECKPOINT ──▶ the segment is removed
//
// # Files
//
// All names are looked up in the store's open directory. All numbers are little
// endian; every checksum is CRC-32C.
//
//	CHECKPOINT                 what is known without the segments; replaced by rename
//	journal/EPOCH-NUMBER.seg   segments, which hold records
//	journal/reserve            space for a CHECKPOINT on a full disk
//	damaged/                   segments and checkpoints with damage, for people to look at
//
// EPOCH is drawn at random by each Open, so a directory that is restored never
// repeats a name that rows of the database already have. NUMBER ascends.
//
// A segment begins with its header, in two sectors of 512 bytes:
//
//	 0  magic "WSRJOUR\0"        24  epoch and number of the segment, u64 each
//	 8  format version, u32      40  epoch and number of its predecessor
//	12  checksum of 16 to 63     56  where the predecessor ends, i64
//	16  nonce, u64
//
// and continues with records, without space between them:
//
//	 0  magic "WSRR"             28  time of the batch: nanoseconds u32,
//	 4  checksum of 8 to 63,     32  seconds i64
//	    seeded with the nonce    40  first number, u64
//	 8  length of the body, u32  48  synced: everything below this offset of the
//	12  checksum of the body         file was durable before, i64
//	16  kind, u16                56  when it was committed, Unix nanoseconds, i64
//	18  length of sid, u16       64  body: sid, host, payload
//	20  length of host, u16
//	24  lines, u32
//
// Kinds: 1 lines, the payload is their text, each with its newline; 2 gap, in
// JSON; 3 the name of the stream's owner. The text is not compressed: on a disk
// that takes 400 MB/s it costs no time, and S2 costs the processor as much as a
// slow disk gains. The rest of the file is zeros: its space is allocated ahead,
// which halves the time of a sync.
//
// CHECKPOINT is a checksum, a blank, and JSON. The database keeps a mark with the
// same id beside its rows.
//
// # We assume
//
//   - A write may tear at any sector and be reordered with any other until an
//     fdatasync of the file returns 0.
//   - An fdatasync that failed once says nothing about that file ever after.
//   - rename(2) is atomic, and durable once the directory is synced.
//   - The database may forget any part of what was added since the last barrier,
//     and what is behind a barrier it keeps, but for what retention takes. An
//     AsyncDatabase has no barrier: it keeps the segments that it calls final.
//
// # Invariants
//
// The tests cite these by number.
//
//	J1  Commit returns when its records are durable, after one fdatasync that it
//	    shares with all commits that wait. After any failure nothing more is
//	    written to that segment: the records are written again to a new one, and
//	    the new one says where the former ends. A new segment counts once its
//	    header, its records and its name are durable.
//	J2  Records are added in their order, each segment to its end before the next.
//	    The mark names a segment before the first row of it is added.
//	J3  A segment is removed only after everything in it was added, a barrier, a
//	    mark and CHECKPOINT, each of them durable before the next begins. Nothing
//	    is in a CHECKPOINT, and nothing in the database, that is not durable here.
//	J4  Recovery adds what the database lacks of the segments that are left: it
//	    counts the rows of each, and lists them if the count differs, or if more may
//	    have been in the segment than can be read from it. So it does after an Add
//	    that failed, for that may have added anything. Each segment is checked once;
//	    a row that retention has taken is not missed.
//	    What was read from the last segment is written again before it is
//	    believed, for it may be in the page cache only.
//	J5  A number that is committed is there, and counts as the same line only if
//	    its checksum is the same: as memory has it, else the journal, else the
//	    database. If none has it, retention has taken it, and it is the same
//	    unless its sender began again below it. Any other number is new, whatever
//	    stands around it; a gap and a line of one number are two rows. If one line
//	    differs, nothing of its Commit is stored.
//	J6  The journal is bounded by Options.Limit and leaves Options.Reserve free. At
//	    the limit a Commit waits for the database to take a segment, at most 10 s. A
//	    Commit that has no space fails with ErrFull and the reason, and leaves
//	    nothing; it works again as soon as there is space. CHECKPOINT has space of
//	    its own, so the journal is emptied on a full disk, too.
//	J7  No receipt is given while the path of the store leads to another directory
//	    than the one that is open.
//	J8  A record that cannot be read is damage if a later record shows that it was
//	    durable, or if its segment has a successor; else it is what a crash left of
//	    a commit without a receipt. Damage costs the records that it is in.
//	J9  If CHECKPOINT, mark and segments do not belong together, or the database has
//	    rows that their segment lacks, one of them was restored, emptied, damaged or
//	    removed. Then every row of the database is listed, and what either side has
//	    is committed. Lines that CHECKPOINT promises and nobody has are named by a
//	    gap and in Stream.Lacks, and are new if they come again. An AsyncDatabase,
//	    which may be away, is not asked for such rows.
//
// J9 cannot notice that segments were removed of which the database had no row yet,
// nor that the whole directory is an older copy: then the senders know more than the
// store.
//
// # Memory
//
// A stream has its spans of committed numbers, at most maxSpans. Checksums of
// lines have a fixed number of places. What waits for the database is read from
// the segments, a few MiB at a time.
package journal
