package main

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

const (
	// roundTrip is the round-trip time of the simulated network between a receiver and PostgreSQL.
	roundTrip      = 2 * time.Millisecond
	networkSubs    = 250 // which have enough invoices, too
	networkWarmUp  = 60
	networkMeasure = 200
)

// overNetwork measures the latency of sequential deliveries, with a simulated network.
func (b *stand) overNetwork() error {
	for _, w := range workloads {
		of := map[string][]float64{}
		for round := range *rounds {
			list := requests(uint64(1000+round), networkSubs, w)
			for _, kind := range []string{byHand, ours} {
				took, err := b.latency(kind, w, list[:networkWarmUp+networkMeasure])
				if err != nil {
					return fmt.Errorf("over a network, %s: %w", kind, err)
				}
				of[kind] = append(of[kind], took)
			}
		}
		progress("over a network, %s: %.2f ms by hand, %.2f ms stripeonce", w.what, median(of[byHand])/1000, median(of[ours])/1000)
		b.add(fmt.Sprintf("median time of a new event with %s of network to PostgreSQL, µs: %s", roundTrip, w.what), of[byHand], of[ours], "≤ 0.65, aim 0.45")
	}
	return nil
}

// latency returns the median time of a delivery, in µs.
func (b *stand) latency(kind string, w *workload, list [][]byte) (float64, error) {
	direct, err := b.database(kind)
	if err != nil {
		return 0, err
	}
	if err := b.fillAccounts(direct, list); err != nil {
		return 0, err
	}
	far, stop, err := behindNetwork(direct)
	if err != nil {
		return 0, err
	}
	defer stop()
	r, err := startReceiver(kind, w, far, 1)
	if err != nil {
		return 0, err
	}
	defer r.stop()
	if _, err := send(r.addr, list[:networkWarmUp], 1); err != nil {
		return 0, err
	}
	var times []float64
	for _, request := range list[networkWarmUp:] {
		took, err := send(r.addr, [][]byte{request}, 1)
		if err != nil {
			return 0, err
		}
		times = append(times, float64(took.Microseconds()))
	}
	return median(times), nil
}

// behindNetwork returns a URL of the same database through a proxy that adds half of roundTrip in each direction.
func behindNetwork(databaseURL string) (far string, stop func(), err error) {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return "", nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	query := u.Query()
	socket := filepath.Join(query.Get("host"), ".s.PGSQL.5432")
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", socket)
			if err != nil {
				_ = client.Close()
				continue
			}
			go carry(client, server)
			go carry(server, client)
		}
	}()
	query.Set("host", "127.0.0.1")
	query.Set("port", strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	return u.String(), func() { _ = listener.Close() }, nil
}

// packet is data that was read, and the time at which it arrives.
type packet struct {
	bytes []byte
	at    time.Time
}

// carry forwards data half a round trip later. Data in flight does not delay later data.
func carry(from, to net.Conn) {
	underWay := make(chan packet, 1024)
	go func() {
		defer close(underWay)
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if n > 0 {
				underWay <- packet{slices.Clone(buffer[:n]), time.Now().Add(roundTrip / 2)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range underWay {
		time.Sleep(time.Until(p.at))
		if _, err := to.Write(p.bytes); err != nil {
			break
		}
	}
	_ = from.Close()
	_ = to.Close()
}
