// Package report tells from what was observed of a drill whether the volume came through it, as a text and as a
// picture. It reads no clock and no file: of the same drill it says the same.
package report

import "time"

// Drill is what an observer has seen of a container that writes to a volume, and
// was moved from one host to another. All times are of the observer's clock,
// since the drill began: the hosts' clocks may differ.
type Drill struct {
	Run      string    // names the drill
	Began    time.Time // when its times are 0
	Volume   string
	Pool     string // "" if it is not known
	From, To string // the hosts
	How      string // what was done to the first, such as "docker stop"

	Acks     []Ack    // in the order of their arrival
	File     string   // what the volume had in the end; unknown unless it moved
	Events   []Event  // in the order of their arrival
	NotMoved string   // why the second host did not get the volume; "" if it did
	Left     []string // what could not be cleaned up
}

// Ack is a line that the writer says is on the storage.
type Ack struct {
	At   time.Duration
	Host string
	Line string // with its end
}

// Event is something else that happened.
type Event struct {
	At   time.Duration
	Host string
	By   string // who says so: the drill, docker, dvold or the writer
	Mark Mark   // what it means; "" for most
	Text string
}

// Mark is a step on the way of a volume from one host to another.
type Mark string

// The steps, in the order that they are explained in. A drill need not have all.
const (
	Struck  Mark = "struck"      // what was to be done to the old host was begun
	Ended   Mark = "ended"       // the old container has
	LetGo   Mark = "let go"      // the old host has unmounted the volume
	Asked   Mark = "asked"       // the new host, to start the container
	Noticed Mark = "noticed"     // that the old host is silent
	Fenced  Mark = "fenced"      // the old host
	Taken   Mark = "taken"       // the volume, by the new host
	Mounted Mark = "mounted"     // on the new host
	Started Mark = "started"     // the new container
	Wrote   Mark = "first write" // of the new container, on the storage
)
