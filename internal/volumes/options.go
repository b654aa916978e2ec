package volumes

import (
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
)

// settings are a volume's options, read. Which were given is told by the map
// they were read from.
type settings struct {
	pool      string
	access    Access // "": as the pool's
	size      int64  // bytes; 0 means no limit
	retain    bool
	uid, gid  *int
	mode      *fs.FileMode
	adopt     string
	takeover  Takeover          // "": as the pool's
	mountWait *time.Duration    // nil: as the pool's
	own       map[string]string // the backend's; it checks them
}

// Options come from anyone who may use the engine, and are stored.
const (
	maxOptions = 64
	maxOption  = 4096 // bytes of a value
)

// parseOptions reads options as Docker's -o gives them, or returns ErrInvalid.
func parseOptions(options map[string]string) (settings, error) {
	s := settings{own: make(map[string]string)}
	if len(options) > maxOptions {
		return s, fmt.Errorf("%d options, the limit is %d: %w", len(options), maxOptions, ErrInvalid)
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		value := options[name]
		if len(name) > maxName || len(value) > maxOption {
			return s, fmt.Errorf("option %.40q is longer than %d bytes: %w", name, maxOption, ErrInvalid)
		}
		if err := s.set(name, value); err != nil {
			return s, fmt.Errorf("option %s=%q: %w: %w", name, value, err, ErrInvalid)
		}
	}
	return s, nil
}

func (s *settings) set(name, value string) (err error) {
	switch name {
	case "pool":
		if s.pool = value; value == "" {
			err = fmt.Errorf("want the name of a pool")
		}
	case "access":
		s.access, err = parseAccess(value)
	case "size":
		s.size, err = backends.ParseSize(value)
	case "retain":
		s.retain, err = parseBool(value)
	case "uid":
		s.uid, err = parseID(value)
	case "gid":
		s.gid, err = parseID(value)
	case "mode":
		s.mode, err = parseMode(value)
	case "adopt":
		if s.adopt = value; value == "" {
			err = fmt.Errorf("want the name of what is to be adopted")
		}
	case "takeover":
		s.takeover, err = parseTakeover(value)
	case "mount_wait":
		s.mountWait, err = parseMountWait(value)
	default:
		s.own[name] = value
	}
	return err
}

func parseAccess(value string) (Access, error) {
	switch a := Access(value); a {
	case AccessShared, AccessExclusive, AccessReadOnly:
		return a, nil
	}
	return "", fmt.Errorf("want %s, %s or %s", AccessShared, AccessExclusive, AccessReadOnly)
}

func parseBool(value string) (bool, error) {
	switch value {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("want true or false")
}

// parseID reads a user or group ID; the last number means "none" to chown(2).
func parseID(value string) (*int, error) {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n == math.MaxUint32 {
		return nil, fmt.Errorf("want a number from 0 to %d", math.MaxUint32-1)
	}
	id := int(n)
	return &id, nil
}

// parseMode reads permission bits in octal, with set-group-ID and sticky.
func parseMode(value string) (*fs.FileMode, error) {
	n, err := strconv.ParseUint(value, 8, 32)
	if err != nil || n > 0o3777 {
		return nil, fmt.Errorf("want an octal mode such as 0750 (set-group-ID 2000 and sticky 1000 may be added)")
	}
	mode := fs.FileMode(n & 0o777)
	if n&0o2000 != 0 {
		mode |= fs.ModeSetgid
	}
	if n&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	return &mode, nil
}

// octal writes what parseMode reads.
func octal(mode fs.FileMode) string {
	n := mode.Perm()
	if mode&fs.ModeSetgid != 0 {
		n |= 0o2000
	}
	if mode&fs.ModeSticky != 0 {
		n |= 0o1000
	}
	return fmt.Sprintf("%04o", uint32(n))
}

// disagreement names the first of the options asked for that the volume does
// not have, or is "". What is not asked for does not disagree, and neither does
// the size it was made with.
func disagreement(asked map[string]string, r record) (string, error) {
	want, err := parseOptions(asked)
	if err != nil {
		return "", err
	}
	have, err := parseOptions(r.Options)
	if err != nil {
		return "", fmt.Errorf("stored options: %w", err)
	}
	made := have.size // which is as good as what it has now: a resize is no reason to change what asks for it
	have.pool, have.access, have.size = r.Pool, r.Access, r.Size
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		wanted, _ := want.show(name)
		value, given := have.show(name)
		switch {
		case name == "size" && want.size == made:
		case !given:
			return fmt.Sprintf("it has no %s, and %s=%s was asked for", name, name, plainly(wanted)), nil
		case value != wanted:
			return fmt.Sprintf("it has %s=%s, not %s", name, plainly(value), plainly(wanted)), nil
		}
	}
	return "", nil
}

// plainly puts what isn't plain text in quotes.
func plainly(value string) string {
	if quoted := strconv.Quote(value); quoted != `"`+value+`"` || strings.Contains(value, " ") {
		return quoted
	}
	return value
}

// show is an option in the one form that can be compared, if it is given.
func (s settings) show(name string) (value string, given bool) {
	switch name {
	case "pool":
		return s.pool, s.pool != ""
	case "access":
		return string(s.access), true
	case "size":
		return strconv.FormatInt(s.size, 10), s.size != 0
	case "retain":
		return strconv.FormatBool(s.retain), true
	case "uid":
		return strconv.Itoa(deref(s.uid)), s.uid != nil
	case "gid":
		return strconv.Itoa(deref(s.gid)), s.gid != nil
	case "mode":
		return octal(deref(s.mode)), s.mode != nil
	case "adopt":
		return s.adopt, s.adopt != ""
	case "takeover":
		return string(s.takeover), s.takeover != ""
	case "mount_wait":
		return deref(s.mountWait).String(), s.mountWait != nil
	}
	value, given = s.own[name]
	return value, given
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
