import CMallocCount
import Foundation
import HearpackKit
import HearpackLiteRT

/// What the tests in Python talk to: one job a call, files and one line of JSON out.
@main
struct Probe {
    static func main() {
        let arguments = Array(CommandLine.arguments.dropFirst())
        do {
            guard let job = arguments.first else {
                throw HearpackError.usage("expected a job: stream, worker, check, hostile, steady, ring, plan, hour")
            }
            let rest = Arguments(Array(arguments.dropFirst()))
            let answer: [String: Any]
            switch job {
            case "stream": answer = try stream(rest)
            case "worker": answer = try worker(rest)
            case "check": answer = try check(rest)
            case "hostile": answer = try hostile(rest)
            case "steady": answer = try steady(rest)
            case "ring": answer = try ring(rest)
            case "plan": answer = try plan(rest)
            case "hour":
                let phone = try VirtualPhone(rest)
                let seconds = Double(try rest.number("seconds"))
                try phone.run(seconds)
                answer = phone.answer(seconds)
            default: throw HearpackError.usage("no job \(job)")
            }
            let data = try JSONSerialization.data(withJSONObject: answer, options: [.sortedKeys])
            FileHandle.standardOutput.write(data + Data("\n".utf8))
        } catch {
            let message = HearpackError.translating(error) { .usage($0) }.message
            FileHandle.standardError.write(Data("\(message)\n".utf8))
            exit(2)
        }
    }

    /// NAME=VALUE arguments.
    struct Arguments {
        private let values: [String: String]

        init(_ list: [String]) {
            values = Dictionary(
                list.map { item in
                    let parts = item.split(separator: "=", maxSplits: 1).map(String.init)
                    return (parts[0], parts.count > 1 ? parts[1] : "")
                }, uniquingKeysWith: { _, last in last })
        }

        func text(_ name: String) throws -> String {
            guard let value = values[name] else { throw HearpackError.usage("expected \(name)=…") }
            return value
        }

        func number(_ name: String) throws -> Int {
            guard let value = Int(try text(name)) else { throw HearpackError.usage("expected a whole number for \(name)") }
            return value
        }

        func url(_ name: String) throws -> URL { URL(fileURLWithPath: try text(name)) }

        func has(_ name: String) -> Bool { values[name] != nil }

        /// blocks=fixed:128 or blocks=ragged:7
        func blocks() throws -> BlockSizes {
            let parts = try text("blocks").split(separator: ":")
            guard parts.count == 2, let figure = UInt32(parts[1]) else {
                throw HearpackError.usage("expected blocks=fixed:N or ragged:SEED")
            }
            return parts[0] == "fixed" ? .fixed(Int(figure)) : .ragged(seed: figure)
        }

        func engine() throws -> (ModelBundle, Manifest.Artefact, LiteRTEngine) {
            let bundle = try ModelBundle(opening: try url("bundle"))
            let artefact = try bundle.manifest.artefact(format: "litert", id: try text("artefact"), in: bundle.folder)
            try bundle.checkFiles(artefact)
            return (bundle, artefact, try LiteRTEngine(bundle, artefact, library: try text("library")))
        }
    }

    static func floats(_ file: URL) throws -> [Float] {
        let data = try Data(contentsOf: file)
        return data.withUnsafeBytes { raw in
            (0..<data.count / 4).map { raw.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
        }
    }

    static func write(_ values: [Float], _ file: URL) throws {
        try values.withUnsafeBytes { try Data($0).write(to: file) }
    }

    static func json(_ events: [SoundEvent]) throws -> Any {
        try JSONSerialization.jsonObject(with: try JSONEncoder().encode(events))
    }

    /// A clip through resampler, loop and decisions.
    static func stream(_ arguments: Arguments) throws -> [String: Any] {
        let (bundle, _, engine) = try arguments.engine()
        let run = try StreamRun(bundle, engine, inRateHz: try arguments.number("rate"))
        try run.feed(try floats(try arguments.url("input")), blocks: try arguments.blocks())
        try write(run.values, try arguments.url("output"))
        return ["calls": run.calls, "ends": run.ends, "events": try json(run.closedEvents)]
    }

    /// A clip through everything the app runs: feed, ring, worker with the plain DSP, playout, trace.
    static func worker(_ arguments: Arguments) throws -> [String: Any] {
        let (bundle, artefact, engine) = try arguments.engine()
        let clock = MonotonicClock()
        let rate = try arguments.number("rate")
        let recorder = TraceRecorder()
        recorder.coldStart.weightCache = DeviceTrace.ColdStart.Cache.none
        let feed = CaptureFeed(ringSamples: rate, clock: clock)
        feed.rateHz = rate
        let prefill = PlayoutRing.prefill(bundle.manifest, deviceRateHz: rate, deviceBlock: 480)
        let playout = try PlayoutRing(
            capacitySamples: 2 * rate, prefillSamples: prefill, deadbandSamples: 240, toleranceSamples: 480, rateHz: rate)
        recorder.thermal(.nominal, timeNs: clock.nowNs())
        recorder.route(DeviceTrace.Route(timeNs: clock.nowNs(), input: .file, output: DeviceTrace.Port.none, rateHz: rate))
        recorder.computeUnit(DeviceTrace.ComputeUnit(timeNs: clock.nowNs(), requested: "cpu", used: "cpu"))
        let worker = try StreamWorker(
            bundle, engine, feed: feed, playout: playout, playoutRateHz: rate, recorder: recorder, clock: clock)
        var events: [SoundEvent] = []
        var audio: [Float] = []
        var heard: [Float] = []
        worker.onEvent = { events.append($0) }
        worker.onAudio = { audio.append(contentsOf: $0) }
        let samples = try floats(try arguments.url("input"))
        var out = [Float](repeating: 0, count: 8_192)
        try samples.withUnsafeBufferPointer { all in
            try arguments.blocks().each(all.count) { start, count in
                if let base = all.baseAddress { feed.deliver(base + start, count) }
                try worker.pump()
                out.withUnsafeMutableBufferPointer { playout.read(SampleBlock(rebasing: $0[..<count]), clock.nowNs()) }
                heard.append(contentsOf: out[..<count])
            }
        }
        try worker.finish()
        try write(audio, try arguments.url("output"))
        let trace = try recorder.finish(
            app: DeviceTrace.App(name: "kit-probe", version: "0.1.0", build: "release"),
            device: DeviceTrace.Device(
                manufacturer: "none", model: "chroot", os: "linux", osVersion: "0", emulated: true,
                cores: ProcessInfo.processInfo.processorCount),
            bundle: DeviceTrace.Model(bundle.manifest, artefact, engine.info),
            audio: DeviceTrace.Audio(
                modelRateHz: bundle.manifest.geometry.sampleRateHz,
                requested: CaptureFormat(rateHz: rate, channels: 1),
                granted: CaptureFormat(rateHz: rate, channels: 1, format: .float32, source: "file"),
                ringSamples: feed.ring.capacity),
            reason: .stopped, timeNs: clock.nowNs())
        try trace.json().write(to: try arguments.url("trace"))
        let counts = playout.counts
        let figures = worker.figures()
        return [
            "events": try json(events.filter { $0.offsetSample != nil }), "audio": audio.count, "heard": heard.count,
            "played": counts.played, "silence": counts.silence, "underrun": counts.underrun,
            "offered": counts.offered, "consumed": counts.consumed, "held": counts.held, "dropped": counts.dropped,
            "lost": figures.lostSamples, "calls": figures.calls,
        ]
    }

    static func check(_ arguments: Arguments) throws -> [String: Any] {
        let (bundle, artefact, engine) = try arguments.engine()
        let reports = try SelfCheck.run(bundle, artefact, engine)
        return [
            "passed": reports.allSatisfy(\.passed), "summaries": reports.map(\.summary),
            "events_that_differ": reports.map(\.eventsThatDiffer),
            "figures": reports.map { Dictionary(uniqueKeysWithValues: $0.checks.map { ($0.metric, $0.value) }) },
        ]
    }

    /// Every bundle of a folder through all that an app does at its start: why it was refused, empty if all is well.
    static func hostile(_ arguments: Arguments) throws -> [String: Any] {
        let library = try arguments.text("library")
        var answer: [String: Any] = [:]
        for group in try FileManager.default.contentsOfDirectory(atPath: try arguments.text("folder")) {
            let folder = try arguments.url("folder").appendingPathComponent(group)
            for bundle in ModelBundle.all(in: folder) { answer[group] = refusal(of: bundle, library) }
        }
        return answer
    }

    static func refusal(of folder: URL, _ library: String) -> String {
        do {
            let bundle = try ModelBundle(opening: folder)
            let artefact = try bundle.manifest.artefact(format: "litert", in: bundle.folder)
            try bundle.checkFiles(artefact)
            _ = try bundle.labels()
            let reports = try SelfCheck.run(bundle, artefact, try LiteRTEngine(bundle, artefact, library: library))
            return reports.first { !$0.passed }.map { "the self-check failed: \($0.summary)" } ?? ""
        } catch {
            return HearpackError.translating(error) { .usage($0) }.message
        }
    }

    static func plan(_ arguments: Arguments) throws -> [String: Any] {
        let bundle = try ModelBundle(opening: try arguments.url("bundle"))
        let artefact = try bundle.manifest.artefact(format: "coreml", id: try arguments.text("artefact"), in: bundle.folder)
        return ["rows": CallPlan(GraphSignature(bundle.manifest), artefact).rows]
    }

    /// Every sample through the ring by two threads; the values say where they belong (float32 holds them exactly).
    static func ring(_ arguments: Arguments) throws -> [String: Any] {
        let wanted = try arguments.number("samples")
        let ring = RingBuffer(atLeast: 8_192)
        let length = 1 << 20
        let pattern = (0..<length).map { Float($0) }
        let began = Date()
        let producer = Thread {
            pattern.withUnsafeBufferPointer { all in
                var next = 0
                var state: UInt32 = 1
                while next < wanted {
                    state = state &* 1_103_515_245 &+ 12_345
                    let at = next % length
                    let size = 1 + Int((state >> 16) % 1_024)
                    let count = min(size, wanted - next, length - at, ring.capacity - ring.available)
                    if count == 0 { sched_yield() } else { ring.write(all.baseAddress! + at, count) }
                    next += count
                }
            }
        }
        producer.start()
        var block = [Float](repeating: 0, count: 1_024)
        var seen = 0
        var wrong = 0
        pattern.withUnsafeBufferPointer { all in
            block.withUnsafeMutableBufferPointer { out in
                while seen < wanted {
                    let at = seen % length
                    let count = ring.read(out.baseAddress!, min(out.count, length - at))
                    if count == 0 { sched_yield() }
                    if memcmp(out.baseAddress!, all.baseAddress! + at, 4 * count) != 0 { wrong += 1 }
                    seen += count
                }
            }
        }
        return [
            "samples": seen, "wrong": wrong, "refused": ring.lostSamples, "left": ring.available,
            "seconds": Date().timeIntervalSince(began),
        ]
    }

    /// The engine with its own time and allocations counted, so that what is left is the kit's.
    final class CountingEngine: InferenceEngine {
        let engine: any InferenceEngine
        let clock: MonotonicClock
        var ns: Int64 = 0
        var allocations: Int64 = 0
        var signature: GraphSignature { engine.signature }
        var info: EngineInfo { engine.info }

        init(_ engine: any InferenceEngine, _ clock: MonotonicClock) {
            self.engine = engine
            self.clock = clock
        }

        func step(
            _ block: UnsafeBufferPointer<Float>, _ state: StreamState, into outputs: inout [[Float]],
            next: inout StreamState
        ) throws {
            let begin = clock.nowNs()
            let before = malloc_count()
            try engine.step(block, state, into: &outputs, next: &next)
            allocations += malloc_count() - before
            ns += clock.nowNs() - begin
        }
    }

    /// Allocations and overhead a hop of the loop in its steady state, recorder and playout included.
    static func steady(_ arguments: Arguments) throws -> [String: Any] {
        let (bundle, _, litert) = try arguments.engine()
        let clock = MonotonicClock()
        let engine = CountingEngine(litert, clock)
        let rate = try arguments.number("rate")
        let hops = try arguments.number("hops")
        let warm = 200
        let feed = CaptureFeed(ringSamples: rate, clock: clock)
        feed.rateHz = rate
        let playout = try PlayoutRing(
            capacitySamples: rate, prefillSamples: 1_024, deadbandSamples: 240, toleranceSamples: 480, rateHz: rate)
        let recorder = TraceRecorder(exactRows: 2 * (hops + warm + 16))
        let worker = try StreamWorker(
            bundle, engine, feed: feed, playout: playout, playoutRateHz: rate, recorder: recorder, clock: clock)
        let hop = bundle.manifest.buffer.samples * rate / bundle.manifest.geometry.sampleRateHz
        var samples = [Float](repeating: 0, count: hop)
        var out = [Float](repeating: 0, count: hop)
        var state: UInt32 = 7
        var overheads = [Int64](repeating: 0, count: hops)
        var inferences = [Int64](repeating: 0, count: hops)
        var allocationsKit: Int64 = 0
        var allocationsEngine: Int64 = 0
        var calls = 0
        for turn in 0..<warm + hops {
            for i in 0..<hop {
                state = state &* 1_103_515_245 &+ 12_345
                samples[i] = Float(Int32(bitPattern: state) >> 8) / 83_886_080.0  // noise at -20 dBFS
            }
            engine.ns = 0
            engine.allocations = 0
            let before = malloc_count()
            let begin = clock.nowNs()
            samples.withUnsafeBufferPointer { _ = feed.deliver($0.baseAddress!, hop) }
            try worker.pump()
            out.withUnsafeMutableBufferPointer { playout.read($0, clock.nowNs()) }
            let took = clock.nowNs() - begin
            let allocated = malloc_count() - before
            if turn >= warm {
                overheads[turn - warm] = took - engine.ns
                inferences[turn - warm] = engine.ns
                allocationsKit += allocated - engine.allocations
                allocationsEngine += engine.allocations
                calls += 1
            }
        }
        overheads.sort()
        inferences.sort()
        func us(_ values: [Int64], _ share: Double) -> Double {
            Double(values[min(values.count - 1, Int(share * Double(values.count)))]) / 1_000
        }
        return [
            "hops": calls, "allocations_kit": allocationsKit, "allocations_engine": allocationsEngine,
            "overhead_p50_us": us(overheads, 0.5), "overhead_p95_us": us(overheads, 0.95),
            "inference_p50_us": us(inferences, 0.5), "inference_p95_us": us(inferences, 0.95),
            "counted": malloc_count() > 0,
        ]
    }
}
