package gluster

import (
	"bytes"
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
var managementEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}

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
	if !m.there() {
		return fmt.Errorf("the pool has no management: %w", backends.ErrInvalid)
	}
	what := "gluster " + strings.Join(args, " ")
	for _, a := range args {
		if !word.MatchString(a) {
			return fmt.Errorf("%s: %q is not fit for a command on a server: %w", what, a, backends.ErrInvalid)
		}
	}
	if err := program.CheckTrusted(m.argv[0]); err != nil { // it may have changed since the start
		return err
	}
	argv := append(append(m.argv[:len(m.argv):len(m.argv)], "--mode=script", "--xml"), args...)
	var out limited
	_, running := program.Run(ctx, argv, managementEnv, m.timeout, &out)
	// With its own errors it exits with 0, or with 2, and says so in its answer.
	var status struct {
		Ret    *int   `xml:"opRet"`
		Code   int    `xml:"opErrno"`
		Says   string `xml:"opErrstr"`
		Output string `xml:"output"`
	}
	err := xml.Unmarshal(out.Bytes(), &status)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, ctx.Err())
	case err == nil && status.Ret != nil && *status.Ret != 0:
		says := status.Says
		if says == "" {
			says = status.Output
		}
		return fmt.Errorf("%s: %w", what, refused{status.Code, strings.Join(strings.Fields(says), " ")})
	case running != nil:
		return fmt.Errorf("%s: %w: %w", what, backends.ErrUnavailable, running)
	case err != nil || status.Ret == nil:
		return fmt.Errorf("%s: no answer that could be understood: %w", what, errors.Join(backends.ErrUnavailable, err))
	case answer == nil:
		return nil
	}
	if err := xml.Unmarshal(out.Bytes(), answer); err != nil {
		return fmt.Errorf("%s: answer: %w", what, err)
	}
	return nil
}

// limited is a buffer that takes no more than maxAnswer.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxAnswer {
		return 0, errors.New("answer too long")
	}
	return l.Buffer.Write(p)
}
