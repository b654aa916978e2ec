package consultest

import (
	"net/http"
	"path"
)

// Kind is what a request to Consul is for.
type Kind int

// The kinds, and how many there are.
const (
	Renewal Kind = iota
	Waiting
	Reading
	Writing
	Kinds
)

func (k Kind) String() string {
	return [Kinds]string{"renewals of the session", "waits for a change of a key", "reads", "writes"}[k]
}

// KindOf tells what a request of dvold's is for.
func KindOf(r *http.Request) Kind {
	switch {
	case path.Dir(r.URL.Path) == "/v1/session/renew":
		return Renewal
	case r.URL.Query().Has("index"):
		return Waiting
	case r.Method == http.MethodGet:
		return Reading
	}
	return Writing
}
