package gluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/program"
)

// management runs gluster(8) on a server: what the servers are told there, they
// take from nobody else (HAZARDS 6).
type management struct {
	argv    []string // empty means that there is none
	timeout time.Duration
}

// managementEnv is all that the command finds in its environment.
var managementEnv = []string{program.SearchPath, "HOME=/root"}

// word is what an argument may be: where the command goes through ssh(1), a shell
// on the server reads it.
var word = regexp.MustCompile(`^[A-Za-z0-9_./:,=@%+-]+$`)

// maxAnswer is how much of an answer is read: a brick with 1,000 clients takes
// 200 KiB to list them.
const maxAnswer = 64 << 20

// refused is the answer of glusterd that it does not do what it was asked.
type refused struct {
	code int // 0 if it gives none
	says string
}

func (r refused) Error() string { return "glusterd says: " + r.says }

// there tells whether there is such a command.
func (m management) there() bool { return len(m.argv) > 0 }

// run has glusterd do what args say, and decodes its answer into answer, unless
// that is nil. It returns a refused if glusterd answers, and did not do it; after
// any other error it may have been done, or be done yet.
func (m management) run(ctx context.Context, answer any, args ...string) error {
	return m.patiently(ctx, func() error { return m.runOnce(ctx, answer, args) })
}

func (m management) runOnce(ctx context.Context, answer any, args []string) error {
	text, running := m.output(ctx, append([]string{"--xml"}, args...))
	// With its own errors it exits with 0, or with 2, and says so in its answer.
	var status struct {
		Ret    *int   `xml:"opRet"`
		Code   int    `xml:"opErrno"`
		Says   string `xml:"opErrstr"`
		Output string `xml:"output"`
	}
	err := xml.Unmarshal(text, &status)
	switch {
	case err == nil && status.Ret != nil && *status.Ret != 0:
		says := strings.Join(strings.Fields(cmp.Or(status.Says, status.Output)), " ")
		return fmt.Errorf("%s: %w", commandLine(args), refused{status.Code, says})
	case running != nil:
		return running
	case err != nil || status.Ret == nil:
		return fmt.Errorf("%s: no answer that could be understood: %w", commandLine(args), errors.Join(backends.ErrUnavailable, err))
	case answer == nil:
		return nil
	}
	if err := xml.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s: answer: %w", commandLine(args), err)
	}
	return nil
}

// text is run for what can't be answered in XML.
func (m management) text(ctx context.Context, args ...string) (text []byte, err error) {
	err = m.patiently(ctx, func() error {
		text, err = m.output(ctx, args)
		return err
	})
	return text, err
}

func commandLine(args []string) string { return "gluster " + strings.Join(args, " ") }

// output runs the command, and returns what it wrote to its standard output, also
// beside an error.
func (m management) output(ctx context.Context, args []string) ([]byte, error) {
	if !m.there() {
		return nil, fmt.Errorf("the pool has no management: %w", backends.ErrInvalid)
	}
	for _, a := range args {
		if !word.MatchString(a) {
			return nil, fmt.Errorf("%s: %q is not fit for a command on a server: %w", commandLine(args), a, backends.ErrInvalid)
		}
	}
	if err := program.StillTrusted(ctx, m.argv[0], m.timeout); err != nil { // it may have changed since the start
		return nil, fmt.Errorf("management: %w", err)
	}
	argv := append(append(m.argv[:len(m.argv):len(m.argv)], "--mode=script"), args...)
	var out limited
	_, err := program.Run(ctx, argv, managementEnv, m.timeout, &out)
	if err != nil {
		err = fmt.Errorf("%s: %w: %w", commandLine(args), backends.ErrUnavailable, err)
	}
	return out.Bytes(), err
}

// limited is a buffer that takes no more than maxAnswer.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxAnswer {
		return 0, errors.New("answer too long")
	}
	return l.Buffer.Write(p)
}
