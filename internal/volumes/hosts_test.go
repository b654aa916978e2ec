package volumes

import (
	"testing"

	"github.com/dvol/dvold/coordination"
)

func TestHosts(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	other, err := w.coord.Join(t.Context(), coordination.Host{Name: "h0", ID: "another machine", Boot: "b"})
	w.must(err)
	w.must(other.Close(t.Context()))
	all, err := w.Hosts(t.Context())
	w.must(err)
	if len(all) != 2 || all[0].Name != "h0" || all[1].Name != "h1" {
		t.Fatalf("hosts = %+v, want h0 and h1", all)
	}
	if h := all[0]; h.Live || h.ThisHost {
		t.Errorf("host that left = %+v, want neither live nor this one", h)
	}
	if h := all[1]; !h.Live || !h.ThisHost || h.Incarnation != w.current.Incarnation() || h.Since.IsZero() {
		t.Errorf("this host = %+v, want it live, since a time, with incarnation %d", h, w.current.Incarnation())
	}
}
