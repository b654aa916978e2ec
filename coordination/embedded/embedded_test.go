package embedded_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/coordination/coordtest"
	"github.com/dvol/dvold/coordination/embedded"
)

func TestConformance(t *testing.T) {
	coordtest.Run(t, func(t *testing.T) func() coordination.Coordinator {
		path := filepath.Join(t.TempDir(), "dvol", "coordination.db")
		return func() coordination.Coordinator { return open(t, path) }
	})
}

// open opens the file at path, which must succeed.
func open(t *testing.T, path string) *embedded.Store {
	t.Helper()
	s, err := embedded.Open(t.Context(), embedded.Config{Path: path}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
