import Foundation
import HearpackKit

/// A phone in virtual time: capture blocks in, the app's worker with an engine that gives its block back, the device's
/// blocks out by a clock of their own; stalls at given times. The sound says when it was captured, so that what is heard
/// says how late it is.
final class VirtualPhone {
    struct Stall {
        let begin: Double
        let length: Double
        var end: Double { begin + length }
    }

    /// What the worker is kept from, in a stall.
    enum Kind: String { case stall, captureStall = "capture_stall" }

    private final class VirtualClock: StreamClock, @unchecked Sendable {
        var ns: Int64 = 0
        func nowNs() -> Int64 { ns }
    }

    private final class EchoEngine: InferenceEngine {
        let signature: GraphSignature
        let info = EngineInfo(runtime: "echo", version: "1", detail: "")
        init(_ manifest: Manifest) { signature = GraphSignature(manifest) }
        func step(
            _ block: UnsafeBufferPointer<Float>, _ state: StreamState, into outputs: inout [[Float]],
            next: inout StreamState
        ) {
            for i in block.indices { outputs[0][i] = block[i] }
        }
    }

    private static let period = 16.0  // seconds until the sound repeats
    private let clock = VirtualClock()
    private let rate: Int
    private let outBlock: Int
    private let blocks: ClosedRange<Int>
    private let jitter: Double
    private let ppm: Double
    private let stalls: [Stall]
    private let kind: Kind
    private let pattern: [Float]
    private let feed: CaptureFeed
    private let playout: PlayoutRing
    private let worker: StreamWorker
    private let recorder: TraceRecorder
    private var random: UInt32 = 1

    private var delivered = 0
    private var taken = 0
    private var heardAt: [Float] = []
    private var delays: [Float] = []

    init(_ arguments: Probe.Arguments) throws {
        let bundle = try ModelBundle(opening: try arguments.url("bundle"))
        let manifest = bundle.manifest
        rate = try arguments.number("rate")
        outBlock = try arguments.number("out_block")
        blocks = try arguments.number("least_block")...(try arguments.number("most_block"))
        jitter = Double(try arguments.number("jitter_us")) / 1e6
        ppm = Double(try arguments.number("ppm"))
        kind = Kind(rawValue: try arguments.text("kind")) ?? .stall
        stalls = try arguments.text("stalls").split(separator: ",").map {
            let parts = $0.split(separator: ":").compactMap { Double($0) }
            guard parts.count == 2 else { throw HearpackError.usage("expected stalls=BEGIN:LENGTH,…") }
            return Stall(begin: parts[0], length: parts[1])
        }
        let length = Int(Self.period) * rate
        pattern = (0..<length).map { 1 + Float($0) / Float(length) }
        feed = CaptureFeed(ringSamples: 8 * rate, clock: clock)
        feed.rateHz = rate
        let hop = (manifest.buffer.samples * rate + manifest.geometry.sampleRateHz - 1) / manifest.geometry.sampleRateHz
        let longest = max(outBlock, blocks.upperBound)
        playout = try PlayoutRing(
            capacitySamples: max(2 * rate, 4 * (hop + longest)),
            prefillSamples: PlayoutRing.prefill(manifest, deviceRateHz: rate, deviceBlock: outBlock),
            deadbandSamples: PlayoutRing.deadband(hop: hop, block: outBlock, rateHz: rate), toleranceSamples: hop,
            rateHz: rate)
        recorder = TraceRecorder(exactRows: 16)
        worker = try StreamWorker(
            bundle, EchoEngine(manifest), feed: feed, playout: playout, playoutRateHz: rate,
            playoutBlock: outBlock, recorder: recorder, clock: clock)
    }

    private func drawn() -> Double {
        random = random &* 1_103_515_245 &+ 12_345
        return Double(random >> 8) / Double(1 << 24)
    }

    /// Seconds of virtual time.
    func run(_ seconds: Double) throws {
        let outRate = Double(rate) * (1 + ppm * 1e-6)
        var out = [Float](repeating: 0, count: outBlock)
        var reads = 0
        var stall = stalls[...]
        var pump = Double.infinity
        var frames = blocks.upperBound
        var captured = frames
        func within(_ time: Double) -> Stall? {
            while let first = stall.first, first.end <= time { stall = stall.dropFirst() }
            return stall.first.flatMap { $0.begin <= time ? $0 : nil }
        }
        while true {
            var capture = Double(captured) / Double(rate)
            if kind == .captureStall, let now = within(capture) { capture = now.end }
            let read = Double(reads) * Double(outBlock) / outRate
            let time = min(capture, read, pump)
            if time >= seconds { return }
            clock.ns = Int64(time * 1e9)
            if time == pump {
                pump = .infinity
                if kind == .stall, let now = within(time) { pump = now.end } else { taken += try worker.pump() }
            } else if time == capture {
                deliver(frames)
                frames = blocks.lowerBound + Int(drawn() * Double(blocks.count))
                captured += frames
                pump = min(pump, time + drawn() * jitter)
            } else {
                out.withUnsafeMutableBufferPointer { playout.read($0, clock.ns) }
                reads += 1
                note(out, time)
            }
        }
    }

    private func deliver(_ frames: Int) {
        let at = delivered % pattern.count
        let first = min(frames, pattern.count - at)
        pattern.withUnsafeBufferPointer { all in
            guard let base = all.baseAddress else { return }
            feed.deliver(base + at, first)
            if first < frames { feed.deliver(base, frames - first) }
        }
        delivered += frames
    }

    /// The delay of a block's first sample, where it is plain sound: no silence, no fade, no repeat.
    private func note(_ out: [Float], _ time: Double) {
        let step = (out[1] - out[0]) * Float(pattern.count)
        guard out[0] >= 1, out[0] < 2, abs(step - 1) < 0.9 else { return }
        let share = (time / Self.period - Double(out[0] - 1)).truncatingRemainder(dividingBy: 1)
        heardAt.append(Float(time))
        delays.append(Float((share < 0 ? share + 1 : share) * Self.period * 1_000))
    }

    /// Milliseconds: median of the delays heard between two times.
    private func median(_ begin: Double, _ end: Double) -> Float {
        let some = delays.indices.filter { Double(heardAt[$0]) >= begin && Double(heardAt[$0]) < end }.map { delays[$0] }
        return some.sorted()[some.count / 2]
    }

    /// Milliseconds: how far the delay ever was from the usual one.
    private func worst(_ usual: Float, _ begin: Double, _ end: Double, _ from: inout Int) -> Float {
        while from < delays.count, Double(heardAt[from]) < begin { from += 1 }
        var most: Float = 0
        while from < delays.count, Double(heardAt[from]) < end {
            most = max(most, abs(delays[from] - usual))
            from += 1
        }
        return most
    }

    func answer(_ seconds: Double) -> [String: Any] {
        let usual = stalls.isEmpty ? median(2, 3) : median(4, 8)
        var from = 0
        var worsts: [Float] = []
        if stalls.isEmpty { worsts.append(worst(usual, 2, seconds - 1, &from)) }
        for (index, stall) in stalls.enumerated() {
            let until = index + 1 < stalls.count ? stalls[index + 1].begin : seconds - 1
            worsts.append(worst(usual, stall.end + 5, until, &from))
        }
        let counts = playout.counts
        let lost = worker.figures().lostSamples
        return [
            "usual_ms": usual, "worst_ms": worsts, "heard": delays.count, "delivered": delivered, "taken": taken,
            "lost": lost, "refused": feed.ring.lostSamples, "held": feed.ring.available,
            "underruns": counts.underruns, "underrun": counts.underrun, "dropped": counts.dropped,
            "trimmed": counts.trimmed, "offered": counts.offered, "written": counts.written, "consumed": counts.consumed,
            "kept": counts.held, "prefill": playout.prefillSamples,
        ]
    }
}
