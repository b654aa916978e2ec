package volumes

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// stays is what this host remembers of its stays in the cluster. Of those that it does
// not remember, others may have been: a copy of this machine, whose stays come between.
type stays struct {
	Schema      int         `json:"schema"`
	Incarnation uint64      `json:"incarnation"`     // the highest
	Spans       [][2]uint64 `json:"spans,omitempty"` // all of them, from and to, as they came; without, all up to the highest
}

func (m *Manager) staysFile() string { return filepath.Join(m.cfg.StateDir, "stays.json") }

// keepStay writes down that this host is in the cluster in that incarnation,
// before it owns anything in it.
func (m *Manager) keepStay(incarnation uint64) error {
	text, err := json.Marshal(m.loadStays().and(incarnation))
	if err == nil {
		err = writeFile(m.staysFile(), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write down this host's stay in the cluster: %w", err)
	}
	return nil
}

// loadStays returns the stays of which this host knows that it was itself.
func (m *Manager) loadStays() stays {
	text, err := os.ReadFile(m.staysFile())
	var s stays
	if err != nil || unmarshal("this host's stays", text, recordSchema, &s) != nil {
		return stays{}
	}
	if len(s.Spans) == 0 && s.Incarnation > 0 { // written by a dvold that kept no more
		s.Spans = [][2]uint64{{1, s.Incarnation}}
	}
	return s
}

// maxSpans is how many spans are kept: what this host owns is of its last stays.
const maxSpans = 1000

// and returns s with another stay.
func (s stays) and(incarnation uint64) stays {
	if s.has(incarnation) {
		return s
	}
	s.Schema, s.Incarnation = recordSchema, max(s.Incarnation, incarnation)
	if last := len(s.Spans) - 1; last >= 0 && s.Spans[last][1]+1 == incarnation {
		s.Spans = slices.Clone(s.Spans)
		s.Spans[last][1] = incarnation
	} else {
		s.Spans = append(slices.Clip(s.Spans), [2]uint64{incarnation, incarnation})
		s.Spans = s.Spans[max(0, len(s.Spans)-maxSpans):]
	}
	return s
}

func (s stays) has(incarnation uint64) bool {
	return slices.ContainsFunc(s.Spans, func(span [2]uint64) bool { return span[0] <= incarnation && incarnation <= span[1] })
}
