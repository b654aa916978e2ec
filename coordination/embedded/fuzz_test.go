package embedded

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"go.etcd.io/bbolt"

	"github.com/dvol/dvold/coordination"
)

// FuzzHost: whatever lies under a host's name, it is either refused or read as
// it was written, and the host's next stay has a greater incarnation.
func FuzzHost(f *testing.F) {
	host, err := os.ReadFile("testdata/schema1/host.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(host)
	s := openFor(f)
	s.db.NoSync = true // it need not survive a power cut
	f.Fuzz(func(t *testing.T, stored []byte) {
		err := s.update(func(tx *bbolt.Tx, _ uint64) error { return tx.Bucket(hostsBucket).Put([]byte("h1"), stored) })
		if err != nil {
			t.Fatal(err)
		}
		hosts, err := s.Hosts(t.Context())
		session, joinErr := s.Join(t.Context(), coordination.Host{Name: "h1", ID: "machine", Boot: "boot"})
		if joinErr == nil {
			defer session.Close(t.Context())
		}
		if (err == nil) != (joinErr == nil) {
			t.Fatalf("Hosts: %v, Join: %v; want both or none", err, joinErr)
		}
		if err != nil {
			text := strings.ReplaceAll(err.Error()+joinErr.Error(), "\x7f", "") // DEL is quoted as it is by package time
			if strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("errors are not one clean line: %q, %q", err, joinErr)
			}
			return
		}
		var want hostEntry
		if len(hosts) != 1 || json.Unmarshal(stored, &want) != nil {
			t.Fatalf("accepted %q as %+v", stored, hosts)
		}
		h := hosts[0]
		if h.Name != "h1" || h.Live || h.ID != want.ID || h.Boot != want.Boot || h.Incarnation != want.Incarnation || !h.Since.Equal(want.Since) || h.Version != want.Version {
			t.Errorf("%q was read as %+v", stored, h)
		}
		if h.Incarnation < math.MaxUint64 && session.Incarnation() != h.Incarnation+1 {
			t.Errorf("incarnation %d follows %d", session.Incarnation(), h.Incarnation)
		}
		again, err := s.Hosts(t.Context())
		if err != nil || len(again) != 1 || !again[0].Live || again[0].ID != "machine" || again[0].Boot != "boot" || again[0].Incarnation != session.Incarnation() {
			t.Errorf("joined, but the hosts are %+v, %v", again, err)
		}
		if age := time.Since(again[0].Since); age < -time.Hour || age > time.Hour {
			t.Errorf("joined at %v", again[0].Since)
		}
	})
}
