// Package buffer is the disk-backed queue: lines go in at one end, blocks come
// out at the other, and what is between survives the end of the process at any
// instruction, and, once it is durable, the end of the machine.
//
// # The idea
//
// A block is some consecutive lines, encoded and checksummed once. It is the
// unit of disk, of compression, usually of the wire, and of the cursor. The
// lines stand in it verbatim, each with its newline; nothing frames a line. The
// bytes whose checksum is taken here are the bytes that the receiver verifies.
//
// Every record has a number, from 1 on, and every queue a stream id. A number
// names one byte string forever: nothing is given out before it is durable,
// so no crash can take back a number that anybody has seen.
//
// # Use
//
//	Append ──▶ filling ──▶ queued ──▶ todo ──▶ unsynced ──▶ durable ──▶ flight ──▶ acked
//	           block       blocks     encoded  in the file  fdatasync   Next       Ack
//	└────────── under mu ─────────┘ └────── the writer ───┘ └───────── under mu ────────┘
//
// One goroutine, the writer, owns the files. While its fdatasync is under way
// lines gather, and become the next group: the slower the disk, the larger the
// groups. Blocks stay in memory until they are durable, which is what makes a
// failed sync survivable.
//
// # Files
//
// All numbers are little endian; every checksum is CRC-32C.
//
//	.               the directory itself carries the lock, flock(2), while the queue is open
//	IDENTITY        which stream a number belongs to; text
//	CURSOR          how far all is acknowledged; two slots
//	%016x.seg       segments: blocks, the truth
//	spare           the next segment while it is made, or an acknowledged one to be written again
//	LOST            losses of the last days, for reports; text
//	damaged/        what was quarantined: files that are no segments, damaged bytes
//
// A segment begins with its header, of 2048 bytes, twice, and then once more as
// the payload of its first block, which is on another page: neither damage nor
// one page that cannot be read costs the segment.
//
//	 0  magic "WSRSEGM\0"       40  base: the first number it may hold
//	 8  format version, u32     48  nonce, u64
//	16  stream id, 16 bytes     56  created, Unix ms
//	32  segment id, u64         64  intakes: count u64, then 16 × {id u64, end i64, unfinished u64}
//	                           456  acked: every record below had its receipt, u64
//	                           464  id of the machine's start, 16 bytes; CLOCK_BOOTTIME, ms, u64
//	                          2044  checksum of these 2044 bytes
//
// and continues with blocks, each at a multiple of 64 bytes:
//
//	 0  magic "WSRB"            40  intake id, u64
//	 4  kind, codec: u8         48  end: stream offset of the intake after the block, i64
//	 6  flags, u16              56  durable: every record below was on disk, u64
//	 8  first number, u64       64  acked: every record below had its receipt, u64
//	16  records, u64            72  when the first line came, Unix ms
//	24  stored length, u32      80  segment id, u64
//	28  raw length, u32         88  zero
//	32  payload checksum, u32  124  checksum of these 124 bytes, seeded with the nonce
//	36  zero                   128  payload, then zeros up to a multiple of 64
//
// 128 bytes are more than the fields need; 64 would be less. A block of one
// line pays for it, but costs a whole page of the file system's anyway.
//
// Kinds: 1 data; 2 gap: records that will never come, the payload says why in
// JSON; 3 seal: no records, all below its number is durable; 4 head: no records,
// the segment's header, which an older wsrelay does not write, and passes over. A
// gap takes no numbers of its own, it stands for numbers given before. Flag 1: the
// last line is a piece of a longer one. Codecs: 0 raw, 1 zstd, 2 S2.
//
// The nonce makes a recycled file safe: the blocks of its former life do not
// pass. The payload's checksum is not seeded, so that it is valid on the wire.
//
// A slot of CURSOR, at 0 and at 4096, is 1024 bytes: magic "WSRCURS\0",
// generation, acked, newest segment, receipt number, durable (u64 each; durable
// is 0 where an older wsrelay wrote it), receipt UID at 64 and receipt token at
// 128 (a length byte and up to 63 bytes each), intakes at 192, checksum at 1020.
// The valid slot of the higher generation counts. One is not written over before
// the other is on disk: the odd generations stand in the second slot.
//
// # We assume
//
//   - A write(2) may tear at any sector and be reordered with any other until
//     an fdatasync of the file returns 0.
//   - rename(2) is atomic, and durable once the directory is synced.
//   - An fdatasync that failed once says nothing about that file ever after.
//   - The disk does not lie about flush, and returns either what was written or
//     something whose checksum is wrong.
//
// # Recovery
//
//	R1  The lock comes first. Waiters get it in the order they came, if the path
//	    still leads to what they waited for. Then the directory is synced: what
//	    has a name keeps it.
//	R2  Segments are the truth. CURSOR and the acked numbers in headers only
//	    move the start forward; without them lines repeat, none is lost. What
//	    CURSOR says was durable is proved, as by a header: it is never said
//	    before it is true.
//	R3  Only the last segment is scanned: any other was synced to its end before
//	    its successor got its name, and is checked when it is read.
//	R4  A block counts if magic, header checksum, segment id, numbers that do not
//	    go back, and payload checksum agree. Behind a bad one the search continues
//	    in steps of 64 bytes. What cannot be read, after a few tries, is as
//	    bad; the search continues after its page of 4096 bytes. If nothing else
//	    of the file can be read either, it is the disk's trouble, which Open
//	    reports, and changes nothing.
//	R5  Numbers that are missing and that no durable covers were never promised.
//	    With nothing valid after them they are used again. In the middle, if
//	    the living intake's spool still has the bytes, all from there on is
//	    read from it again; else they become a gap "unsynced".
//	R6  Missing numbers that some durable covers are damage: a gap with exactly
//	    these numbers. What the last group before a crash had promised is only
//	    known once a later header says so; a seal does, a second after the last
//	    line and at Close.
//	R7  Nothing is appended to a segment that an earlier process wrote.
//	R8  Missing segments below the cursor are acknowledged ones; above it they
//	    are a gap, but for numbers that a listed gap covers. So is what has the
//	    name of a segment and is none, a link or a folder, which is moved to
//	    damaged/. What may not be changed stays, and is no reason not to open.
//	R9  Where two segments hold the same numbers the later one counts, while it
//	    is there: a segment ends where the base of the next one says.
//	R10 Where a segment has a newer format version, nothing is changed: what
//	    comes goes to a fresh queue in the folder "older". A directory that
//	    cannot be used is an error of Open, to be tried again.
//	R11 A crash during recovery is harmless: it changes nothing but by one
//	    rename.
//	R12 What is not proved durable is copied, with every gap, to a new segment
//	    before anything is given out. That it reads well proves nothing: it may
//	    be in the page cache only.
//
// Numbering continues after the highest number that a valid block, a base, a gap
// or the cursor has. Where numbers may have been used that nothing remembers (a
// copied directory, a removed segment, an end that cannot be read), what comes
// gets a new stream id. After Diverge IDENTITY alone knows which stream the lines in
// older segments belong to: if it is damaged before they have their receipts, those
// under way may be stored twice.
//
// # Failure
//
//	F1  After a failed sync the file is not believed any more: what was not
//	    durable is written again, from memory, to a new segment (as in R12).
//	F2  A full disk, or the limit: the writer waits and tries again, and Append
//	    waits for it. Nothing is dropped, unless the user has asked for it
//	    (DropOldest, MaxAge): then whole segments go, a durable gap first.
//	F3  A block that cannot be read is tried again and again, and so is a page
//	    in which one may begin; it counts as damaged only after many tries, and
//	    if some other page of the file can be read. So a bad page costs what is
//	    on it, named by gaps. Meanwhile TryNext fails; while a gap becomes
//	    durable, it has nothing.
//	F4  A file that has lost its name is not on disk, whatever fdatasync says: it
//	    is looked at after each sync. What is open is written again under its
//	    name, CURSOR, IDENTITY and the directory too; what was in other files is
//	    damage, once the consumer has missed it before and after such a look. All
//	    names are looked up in the open directory, so what happens to the path is
//	    none.
//	F5  What only removes or remembers (a segment that may not be removed, a
//	    cursor that cannot be saved) keeps no line from the disk or the consumer.
//
// # Invariants
//
//	I1  acked ≤ durable ≤ head; each only grows.
//	I2  Every record from acked up to durable can be read or is in a gap.
//	I3  Records come out in the order they went in, but for Rewind.
//	I4  Once WaitDurable(s) has returned nil, what is below s survives any crash.
//	I5  What comes out again after a restart is all from the cursor on.
//	I6  Segments and spare take no more than the limit, one segment and one
//	    block, but for gaps and what is saved at the end. In damaged/ are up to
//	    16 pieces of 1 MiB, 256 MiB of lines in a run, and, without a bound, the
//	    files that were found and are no segments.
//	I7  No block is given out that this queue was not given.
//	I8  Every record is acknowledged, waits, or is in a gap, and never in two of
//	    these.
package buffer
