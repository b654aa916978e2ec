// Command worker reads and writes the register and the log of a volume, again and
// again, and writes down what it does. Package history judges it.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/test/history"
)

const usage = `usage: worker NAME VOLUME JOURNAL INTERVAL

Every INTERVAL reads VOLUME/register, writes NAME/1, NAME/2… to it and appends
that to VOLUME/log, each write synced before the next. After an error it goes on,
with a new number, and opens the files anew.
`

func main() {
	if len(os.Args) != 5 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "worker:", run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]))
	os.Exit(1)
}

// run works until it is killed, or can't write to its journal.
func run(name, volume, journal, every string) error {
	interval, err := time.ParseDuration(every)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(journal, os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	w := &worker{volume: volume, journal: file}
	for seq := 1; ; seq++ {
		value := fmt.Sprintf("%s/%d", name, seq)
		for _, kind := range []history.Kind{history.Read, history.Write, history.Append} {
			if err := w.do(kind, value); err != nil {
				return err
			}
		}
		time.Sleep(interval)
	}
}

// worker has the files open of which the last use was no error.
type worker struct {
	volume        string
	journal       *os.File
	register, log *os.File
}

// do does one thing, between two lines of the journal.
func (w *worker) do(kind history.Kind, value string) error {
	called := ""
	if kind != history.Read {
		called = value
	}
	if err := w.tell("call", kind, called); err != nil {
		return err
	}
	var err error
	switch kind {
	case history.Read:
		value, err = w.read()
	case history.Write:
		err = w.write(value)
	case history.Append:
		err = w.append(value)
	}
	if err != nil {
		w.close()
		return w.tell("fail", kind, err.Error())
	}
	return w.tell("done", kind, value)
}

// tell writes to the journal, of which nothing is lost unless the kernel is.
func (w *worker) tell(event string, kind history.Kind, text string) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return err
	}
	_, err := w.journal.WriteString(history.JournalLine(event, time.Duration(now.Nano()), kind, text))
	return err
}

// close has the next use open the files anew.
func (w *worker) close() {
	w.register.Close() // it may be nil
	w.log.Close()
	w.register, w.log = nil, nil
}

// read opens the file anew: what another host wrote is to be seen.
func (w *worker) read() (string, error) {
	text, err := os.ReadFile(filepath.Join(w.volume, "register"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil && len(text) != size {
		err = fmt.Errorf("read %d bytes", len(text))
	}
	return strings.TrimRight(string(text), " \n"), err
}

// size is what is in the register, once anything is. One read of less proves nothing:
// sshfs reads to an end that is none when its connection is closed.
const size = 64

// write writes as many bytes each time, so that one write replaces another whole.
func (w *worker) write(value string) (err error) {
	if w.register == nil {
		if w.register, err = os.OpenFile(filepath.Join(w.volume, "register"), os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
			return err
		}
	}
	if _, err := w.register.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w.register, "%-*s\n", size-1, value); err != nil {
		return err
	}
	return w.register.Sync()
}

func (w *worker) append(value string) (err error) {
	if w.log == nil {
		if w.log, err = os.OpenFile(filepath.Join(w.volume, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(w.log, value); err != nil {
		return err
	}
	return w.log.Sync()
}
