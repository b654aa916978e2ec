package gluster

// What tests know of the inside.
var (
	ClientsAt    = clientsAt
	ClientsBelow = clientsBelow
)

// TendInterval is how soon a client that has ended is replaced.
const TendInterval = tendInterval

// SharedPoint is where the shared client of a pool has its Gluster volume.
func SharedPoint(p *Pool) string {
	s := p.sharedOf(p.config.Volume)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.mountpoint
}

// AskInterval is how often storage is asked whether it answers.
const AskInterval = askInterval
