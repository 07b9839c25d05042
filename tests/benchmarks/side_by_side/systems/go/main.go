// A client in Go, measured as the bound of what a client can do: the commands are those of base.py.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	bodySize = 256
	prefetch = 200
	window   = 500
	poolSize = 1000
	behind   = 0.05
	giveUp   = 600 * time.Second
)

// Order is what every message is.
type Order struct {
	ID       string `json:"id"`
	Account  string `json:"account"`
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
	Sent     int64  `json:"sent"`
	Memo     string `json:"memo"`
}

type job struct {
	url, queue string
	messages   int
	rate       float64
	latency    bool
	skip       int
	began      float64
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("describe, publish or consume"))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	var j job
	flags.StringVar(&j.url, "url", "", "")
	flags.StringVar(&j.queue, "queue", "", "")
	flags.IntVar(&j.messages, "messages", 0, "")
	flags.Float64Var(&j.rate, "rate", 0, "")
	flags.BoolVar(&j.latency, "latency", false, "")
	flags.IntVar(&j.skip, "skip", 0, "")
	flags.Float64Var(&j.began, "began", float64(time.Now().UnixNano())/1e9, "")
	check(flags.Parse(os.Args[2:]))
	switch os.Args[1] {
	case "describe":
		say(map[string]any{
			"settings": fmt.Sprintf("publisher confirms pipelined with a window of %d "+
				"(NotifyPublish), mandatory; encoding/json into a struct, one goroutine, an ack "+
				"for each message.", window),
			"versions": map[string]string{"Go": strings.TrimPrefix(runtime.Version(), "go")},
		})
	case "publish":
		publish(j)
	case "consume":
		consume(j)
	default:
		fail(fmt.Errorf("describe, publish or consume, not %q", os.Args[1]))
	}
}

func open(j job) (*amqp.Connection, *amqp.Channel) {
	connection, err := amqp.Dial(j.url)
	check(err)
	channel, err := connection.Channel()
	check(err)
	_, err = channel.QueueDeclare(
		j.queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	check(err)
	return connection, channel
}

func orders(count int) []Order {
	made := make([]Order, count)
	for number := range made {
		order := Order{
			ID:       fmt.Sprintf("order-%012d", number),
			Account:  fmt.Sprintf("account-%06d", number%1000),
			Amount:   fmt.Sprintf("%d.%02d", number/100, number%100),
			Currency: "EUR",
			Sent:     time.Now().UnixNano(),
		}
		short, err := json.Marshal(order)
		check(err)
		order.Memo = strings.Repeat("x", bodySize-len(short))
		made[number] = order
	}
	return made
}

// pace waits until each message is due, and tells its stamp: see pacing.py.
type pace struct {
	start, woke int64
	period      float64
}

func (p *pace) stamp(index int) int64 {
	due := p.start + int64(float64(index)*p.period)
	for now := time.Now().UnixNano(); now < due; now = p.woke {
		time.Sleep(time.Duration(due - now))
		p.woke = time.Now().UnixNano()
	}
	if p.woke > due {
		return p.woke
	}
	return due
}

func publish(j job) {
	connection, channel := open(j)
	check(channel.Confirm(false))
	slots := make(chan struct{}, window)
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, window))
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	done := make(chan error, 1)
	go func() {
		for count := 0; count < j.messages; count++ {
			select {
			case confirmation, ok := <-confirms:
				if !ok || !confirmation.Ack {
					done <- fmt.Errorf("the broker did not take a message")
					return
				}
			case <-returns:
				done <- fmt.Errorf("a message was returned")
				return
			}
			<-slots
		}
		done <- nil
	}()
	pool := orders(min(poolSize, j.messages))
	p := pace{start: time.Now().UnixNano()}
	if j.rate > 0 {
		p.period = 1e9 / j.rate
	}
	began := time.Now()
	for index := 0; index < j.messages; index++ {
		order := pool[index%len(pool)]
		if j.rate > 0 {
			order.Sent = p.stamp(index)
		}
		body, err := json.Marshal(&order)
		check(err)
		slots <- struct{}{}
		check(channel.PublishWithContext(context.Background(), "", j.queue, true, false,
			amqp.Publishing{
				ContentType:  "application/json",
				DeliveryMode: amqp.Persistent,
				Body:         body,
			}))
	}
	if j.rate > 0 {
		whole := float64(j.messages) * p.period
		late := (float64(time.Now().UnixNano()-p.start) - whole) / whole
		if late > behind {
			say(map[string]any{"behind": late})
		}
	}
	check(<-done)
	say(map[string]any{"publish_per_s": float64(j.messages) / time.Since(began).Seconds()})
	check(connection.Close())
}

func consume(j job) {
	connection, channel := open(j)
	check(channel.Qos(prefetch, 0, false))
	deliveries, err := channel.Consume(j.queue, "", false, false, false, false, nil)
	check(err)
	say(map[string]any{"ready": true})
	timer := time.AfterFunc(giveUp, func() { fail(fmt.Errorf("not all messages came")) })
	latencies := make([]int64, 0, j.messages)
	var start float64
	var first time.Time
	var cpu time.Duration
	for count := 1; count <= j.messages; count++ {
		delivery, ok := <-deliveries
		if !ok {
			fail(fmt.Errorf("the channel was closed"))
		}
		var order Order
		check(json.Unmarshal(delivery.Body, &order))
		if count == 1 {
			start = float64(time.Now().UnixNano())/1e9 - j.began
			first, cpu = time.Now(), used()
		}
		if j.latency {
			latencies = append(latencies, time.Now().UnixNano()-order.Sent)
		}
		check(delivery.Ack(false))
	}
	timer.Stop()
	seconds, spent := time.Since(first).Seconds(), used()-cpu
	check(connection.Close())
	figures := map[string]any{
		"handled_per_s":      float64(j.messages-1) / seconds,
		"cpu_us_per_message": float64(spent.Nanoseconds()) / 1e3 / float64(j.messages-1),
		"start_s":            start,
		"rss_mib":            peakMemory(),
	}
	if j.latency {
		measured := latencies[j.skip:]
		sort.Slice(measured, func(a, b int) bool { return measured[a] < measured[b] })
		figures["p50_ms"] = percentile(measured, 50)
		figures["p99_ms"] = percentile(measured, 99)
	}
	say(figures)
}

// percentile is the nearest rank, in milliseconds.
func percentile(ordered []int64, percent int) float64 {
	rank := (len(ordered)*percent + 99) / 100
	if rank < 1 {
		rank = 1
	}
	return float64(ordered[rank-1]) / 1e6
}

// used is the processor time of this process, user and system.
func used() time.Duration {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// peakMemory is in MiB; where there is no /proc, 0.
func peakMemory() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(status), "\n") {
		if strings.HasPrefix(line, "VmHWM:") {
			kib, err := strconv.ParseFloat(strings.Fields(line)[1], 64)
			check(err)
			return kib / 1024
		}
	}
	return 0
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func say(values map[string]any) {
	line, err := json.Marshal(values)
	check(err)
	fmt.Println(string(line))
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
