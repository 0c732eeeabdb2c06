package logs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"sync"
)

// Limits on the table of skeletons; lines of more shapes are stored as they are.
const (
	maxSkeletons     = 64 << 10
	maxSkeletonBytes = 16 << 20
)

// Skeletons is a row.Skeletons in a file that only grows: a line of text for each entry, a
// CRC-32C and the quoted skeleton. The number of an entry is the number of its line,
// so a damaged one does not shift the others, and none is given twice. An entry is on
// disk before it has a number. Its methods may be called concurrently.
type Skeletons struct {
	mu      sync.RWMutex // guards the fields below
	file    *os.File
	numbers map[string]uint32
	entries []string // empty: damaged
	size    int64
	failed  bool // the file's end is unknown: no entry can be added
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// OpenSkeletons opens the table at path, and creates it if there is none.
func OpenSkeletons(path string) (s *Skeletons, err error) {
	s = &Skeletons{numbers: map[string]uint32{}}
	if s.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.file.Close()
		}
	}()
	r := bufio.NewReader(s.file)
	for {
		line, err := r.ReadBytes('\n')
		s.size += int64(len(line))
		if len(line) > 0 {
			s.load(line)
		}
		if errors.Is(err, io.EOF) {
			if len(line) > 0 { // a kill cut the entry: end it, so that the next has a line of its own
				if _, err := s.file.WriteString("\n"); err != nil {
					return nil, err
				}
				s.size++
			}
			return s, s.file.Sync()
		}
		if err != nil {
			return nil, err
		}
	}
}

func (s *Skeletons) load(line []byte) {
	entry := ""
	if sum, quoted, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" ")); ok {
		text, err := strconv.Unquote(string(quoted))
		if err == nil && string(sum) == checksum(text) {
			entry = text
			s.numbers[entry] = uint32(len(s.entries))
		}
	}
	s.entries = append(s.entries, entry)
}

func checksum(text string) string {
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(text), castagnoli))
}

// Number gives the number of a skeleton, or a new one; ok is false if the table is
// full or cannot be written.
func (s *Skeletons) Number(skeleton []byte) (n uint32, ok bool) {
	s.mu.RLock()
	n, ok = s.numbers[string(skeleton)]
	s.mu.RUnlock()
	if ok || len(skeleton) == 0 {
		return n, ok
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok = s.numbers[string(skeleton)]; ok {
		return n, true
	}
	text := string(skeleton)
	line := checksum(text) + " " + strconv.Quote(text) + "\n"
	if s.failed || len(s.entries) >= maxSkeletons || s.size+int64(len(line)) > maxSkeletonBytes {
		return 0, false
	}
	if _, err := s.file.WriteString(line); err != nil || s.file.Sync() != nil {
		s.failed = s.file.Truncate(s.size) != nil || s.file.Sync() != nil
		return 0, false
	}
	s.size += int64(len(line))
	n = uint32(len(s.entries))
	s.entries = append(s.entries, text)
	s.numbers[text] = n
	return n, true
}

// Skeleton gives the skeleton of a number.
func (s *Skeletons) Skeleton(n uint32) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if uint64(n) >= uint64(len(s.entries)) || s.entries[n] == "" {
		return nil, fmt.Errorf("skeleton %d is missing or damaged", n)
	}
	return []byte(s.entries[n]), nil
}

// Close closes the file.
func (s *Skeletons) Close() error { return s.file.Close() }

// Len is one more than the highest number.
func (s *Skeletons) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.entries)
}
