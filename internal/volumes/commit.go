package volumes

import (
	"context"
	"time"

	"github.com/dvol/dvold/coordination"
)

// commit changes records. Its error is coordination.ErrConflict or
// ErrUnavailable.
func (m *Manager) commit(ctx context.Context, ops ...coordination.Op) ([]coordination.Record, error) {
	if err := m.reach.writable(); err != nil {
		return nil, err
	}
	return m.commitInDoubt(ctx, ops...)
}

// commitSoon is commit for those who don't wait long.
func (m *Manager) commitSoon(ctx context.Context, ops ...coordination.Op) ([]coordination.Record, error) {
	return ask(ctx, m, func(ctx context.Context) ([]coordination.Record, error) { return m.commit(ctx, ops...) })
}

// commitInDoubt is commit for those who mend the records.
func (m *Manager) commitInDoubt(ctx context.Context, ops ...coordination.Op) ([]coordination.Record, error) {
	session, err := m.session()
	if err != nil {
		return nil, err
	}
	return m.commitIn(ctx, session, ops...)
}

// commitIn is commitInDoubt in that session. A caller that leaves sooner than
// an answer can be expected says nothing of the coordinator.
func (m *Manager) commitIn(ctx context.Context, session coordination.Session, ops ...coordination.Op) ([]coordination.Record, error) {
	begin := time.Now()
	written, err := session.Commit(ctx, ops...)
	switch {
	case err == nil:
		return written, nil
	case ctx.Err() != nil && time.Since(begin) < patience:
		return nil, unavailable(err)
	}
	return nil, m.lost(err)
}
