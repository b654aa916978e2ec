package consul

import (
	"fmt"
	"net/http"
	"strings"
)

// failure is an attempt at a request that brought no answer to it.
type failure struct {
	agent     string // its address
	tokenFile string
	status    int    // 0 if there was none
	text      string // what the agent said
	err       error  // instead of an answer
	unsent    bool   // no agent can have got the request
}

func (f *failure) Error() string {
	switch {
	case f.err != nil && f.agent == "":
		return f.err.Error()
	case f.err != nil:
		return fmt.Sprintf("agent %s: %v", f.agent, f.err)
	case f.status == http.StatusForbidden && f.tokenFile == "":
		return fmt.Sprintf("agent %s: permission denied: no token file is configured (%s)", f.agent, f.text)
	case f.status == http.StatusForbidden:
		return fmt.Sprintf("agent %s: permission denied: the token in %s lacks a permission (%s)", f.agent, f.tokenFile, f.text)
	}
	return fmt.Sprintf("agent %s: status %d: %.300s", f.agent, f.status, f.text)
}

func (f *failure) Unwrap() error { return f.err }

// harmless tells that the request changed nothing, and never will. What is
// left may have happened, or may happen later: an answer was lost, or the
// leader lost its office while it wrote.
func (f *failure) harmless() bool {
	return f.unsent ||
		f.status >= 400 && f.status < 500 ||
		f.status == http.StatusInternalServerError &&
			(strings.Contains(f.text, "No cluster leader") || strings.Contains(f.text, "node is not the leader"))
}

// final tells that the same request would fail again.
func (f *failure) final() bool {
	return f.agent == "" || // nobody was asked: no token, say
		f.status >= 300 && f.status < 500 && f.status != http.StatusTooManyRequests
}
