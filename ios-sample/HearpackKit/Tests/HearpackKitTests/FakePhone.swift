import Foundation

@testable import HearpackKit

/// A sleeper that is the world: while the inference thread sleeps, time goes on and callbacks come, all of it on that thread.
final class FakePhone: Sleeper, @unchecked Sendable {
    let clock: SetClock
    let feed: CaptureFeed
    let over = DispatchSemaphore(value: 0)
    /// By second.
    private(set) var wakeUps: [Int64: Int] = [:]
    private(set) var delivered = 0
    /// Samples that another app had instead.
    private(set) var elsewhere = 0
    /// When another app has the microphone.
    var silent = Range<Int64>(uncheckedBounds: (0, 0))
    var onSilence: () -> Void = {}

    private let lump: Int
    private let rate: Double
    private let beginNs: Int64
    private let endNs: Int64
    private let samples: [Float]

    /// - Parameters:
    ///   - block, lump: frames of a callback; frames that come at once.
    ///   - ppm: how much faster than it says the microphone runs.
    init(rateHz: Int, block: Int, lump: Int, seconds: Int64, ppm: Double = 0, clock: SetClock = SetClock()) {
        self.clock = clock
        self.lump = lump
        feed = CaptureFeed(ringSamples: 8 * rateHz, clock: clock)
        feed.rateHz = rateHz
        rate = Double(rateHz) * (1 + ppm * 1e-6)
        beginNs = clock.ns
        endNs = clock.ns + seconds * 1_000_000_000
        samples = [Float](repeating: 0.25, count: block)
    }

    func sleep(_ ns: Int64) {
        if clock.ns >= endNs {  // time stands still until the thread is stopped
            over.signal()
            Thread.sleep(forTimeInterval: 0.001)
            return
        }
        let until = clock.ns + ns
        while true {
            let position = (delivered + elsewhere) / lump + 1
            let due = beginNs + Int64(Double(position * lump) / rate * 1e9)
            if due > until { break }
            clock.ns = max(clock.ns, due)
            if silent.contains(due) {
                if elsewhere == 0 { onSilence() }
                elsewhere += samples.count
            } else {
                feed.deliver(samples, samples.count)
                delivered += samples.count
            }
        }
        clock.ns = until
        wakeUps[until / 1_000_000_000, default: 0] += 1
    }
}

/// A step net with a hop of so many milliseconds.
func stepText(ms: Int) throws -> Data {
    let hop = 16 * ms
    return try manifestText { fields in
        fields["geometry"] = [
            "sample_rate_hz": 16_000, "channels": 1, "window_samples": 2 * hop, "hop_samples": hop, "delay_samples": hop,
        ]
        fields["buffer"] = ["kind": "step", "hops_per_call": 1, "samples": hop]
        for key in ["inputs", "outputs"] {
            var tensors = fields[key] as? [[String: Any]] ?? []
            tensors[0]["shape"] = [1, hop]
            fields[key] = tensors
        }
    }
}
