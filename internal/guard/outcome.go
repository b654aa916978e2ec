package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/cut"
)

// Outcome is what was done about an order that is due.
type Outcome struct {
	Since    time.Duration `json:"since"`              // of the order
	Began    time.Duration `json:"began"`              // when the cut began; later, if it had to begin again
	Verified time.Duration `json:"verified,omitempty"` // when it was verified; 0: it isn't, and goes on
	Problem  string        `json:"problem,omitempty"`  // why it isn't
	Killed   []cut.Victim  `json:"killed,omitempty"`
}

const (
	beatEvery = 500 * time.Millisecond
	beatLife  = 2 * time.Second
)

// Outcome returns what was done about the order that stands for a volume, by
// the guard or by [Standby]. It returns false if there is no such order, or
// nobody has begun.
func (b *Book) Outcome(id string) (Outcome, bool) {
	b.mu.Lock()
	own, ok := b.own[id]
	i := slices.IndexFunc(b.orders, func(o Order) bool { return o.ID == id })
	var since time.Duration
	if i >= 0 {
		since = b.orders[i].Since
	}
	b.mu.Unlock()
	if i < 0 {
		return Outcome{}, false
	}
	ok = ok && own.Since == since
	if ok && own.Verified != 0 {
		return own, true
	}
	f, err := readOutcomes(b.dir, b.boot)
	if theirs, found := f.Outcomes[id]; err == nil && found && theirs.Since == since {
		return theirs, true
	}
	return own, ok
}

// Guarded tells whether there is a guard: see [Book.Unguarded].
func (b *Book) Guarded() bool { return b.Unguarded() == nil }

// Unguarded returns why there is no guard, or nil if there is: a process that
// holds its lock, has read the orders less than two seconds ago, and sees the
// mounts, processes and network that this one sees.
func (b *Book) Unguarded() error {
	held, err := b.locked()
	if err != nil {
		return fmt.Errorf("look for a guard: %w", err)
	}
	if !held {
		return errors.New("no guard runs")
	}
	f, err := readOutcomes(b.dir, b.boot)
	if err != nil {
		return fmt.Errorf("the guard can't be understood: %w", err)
	}
	if age := b.now() - f.Beat; age > beatLife || age < 0 {
		return fmt.Errorf("a guard is there, but for %v has not read its orders", age.Round(time.Millisecond))
	}
	ours, err := namespaces()
	if err != nil {
		return err
	}
	if !slices.Equal(f.Namespaces, ours) {
		return fmt.Errorf("the guard, process %d, has other mounts or processes than dvold: %v, not %v", f.PID, f.Namespaces, ours)
	}
	theirs, err := networkOf(strconv.Itoa(f.PID)) // which it does not tell; its number is also ours
	if err != nil {
		return err
	}
	own, err := networkOf("self")
	if err == nil && theirs != own {
		err = fmt.Errorf("the guard, process %d, has another network than dvold: %s, not %s", f.PID, theirs, own)
	}
	return err
}

// networkOf names the network that a process sees, by its number in /proc.
func networkOf(pid string) (string, error) { return os.Readlink("/proc/" + pid + "/ns/net") }

// locked tells whether a guard holds its lock. Who asks shares the lock for a
// moment, so that others who ask at the same time see no guard in it.
func (b *Book) locked() (bool, error) {
	f, err := os.Open(filepath.Join(b.dir, lockFile))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close() // unlocks
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

func readOutcomes(dir, boot string) (outcomes, error) {
	text, err := os.ReadFile(filepath.Join(dir, outcomesFile))
	if errors.Is(err, os.ErrNotExist) {
		return outcomes{}, nil
	}
	if err != nil {
		return outcomes{}, err
	}
	return parseOutcomes(text, boot)
}

// namespaces names the mounts and processes that this process sees.
func namespaces() ([]string, error) {
	var names []string
	for _, kind := range []string{"mnt", "pid"} {
		name, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}
