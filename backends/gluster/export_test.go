package gluster

import (
	"testing"

	"github.com/dvol/dvold/internal/fuseclient"
)

// What tests know of the inside.
var (
	ClientsAt    = kind().At
	ClientsBelow = kind().Below
)

// TendInterval is how soon a client that has ended is replaced.
const TendInterval = fuseclient.TendInterval

// SharedPoint is where the shared client of a pool has its Gluster volume.
func SharedPoint(t *testing.T, p *Pool) string {
	t.Helper()
	root, leave, err := p.sharedOf(p.config.Volume).Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leave()
	return root
}

// AskInterval is how often storage is asked whether it answers.
const AskInterval = fuseclient.AskInterval
