package login

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// Bounds of what is hashed. A step of the cost doubles the time: 12 is a quarter
// of a second or so.
const (
	cost        = 10
	maxCost     = 14
	maxPassword = 72 // bytes; bcrypt looks at no more
)

// Users are the bcrypt hashes of passwords by name.
type Users map[string][]byte

// ParseUsers reads one "name:hash" a line, as htpasswd -B and [Line] make them.
// Empty lines and those that begin with # are passed over. Errors name the line
// and show nothing of it.
func ParseUsers(text []byte) (Users, error) {
	users := Users{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	n := 0
	wrong := func(problem string) error { return fmt.Errorf("line %d: %s", n, problem) }
	for lines.Scan() {
		n++
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		cost, err := bcrypt.Cost([]byte(hash))
		switch _, twice := users[name]; {
		case !ok || name == "":
			return nil, wrong("want name:hash, as wsreceive passwd prints it")
		case err != nil:
			return nil, wrong("this is not a bcrypt hash; wsreceive passwd and htpasswd -B make them")
		case cost > maxCost:
			return nil, wrong(fmt.Sprintf("cost %d is too slow; the highest is %d", cost, maxCost))
		case twice:
			return nil, wrong("a name that is there already")
		}
		users[name] = []byte(hash)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(users) == 0 {
		return nil, errors.New("no user in it")
	}
	return users, nil
}

// Line makes the line of a user, without its newline.
func Line(name string, password []byte) (string, error) {
	switch {
	case name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == ':' || r == 0x7f }) || name[0] == '#':
		return "", errors.New("a name is one word without a colon")
	case len(password) == 0:
		return "", errors.New("the password is empty")
	case len(password) > maxPassword:
		return "", fmt.Errorf("the password has %d bytes, and bcrypt takes %d", len(password), maxPassword)
	}
	hash, err := bcrypt.GenerateFromPassword(password, cost)
	return name + ":" + string(hash), err
}
