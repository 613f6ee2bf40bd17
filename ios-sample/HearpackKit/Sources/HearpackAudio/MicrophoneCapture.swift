#if canImport(AVFoundation) && !os(macOS)
@preconcurrency import AVFoundation
import CHearpackTry
import HearpackKit

/// The microphone by AVAudioEngine: a sink node, in the blocks of the session. Samples go on as they come, at the device's
/// rate: the kit's own resampler follows.
///
/// No tap: it comes in blocks of 100 ms and more, and ends the app where the hardware's rate differs from its format.
///
/// Blocks are made in static functions, outside of any actor: a closure written on the main actor would be checked for it
/// on the audio thread, and end the app.
final class MicrophoneCapture: CaptureSource {
    private static let tries = 5
    private static let pauseS = 0.1

    private let clock: any StreamClock
    private let playout: PlayoutRing?
    private var engine: AVAudioEngine?

    /// - Parameter playout: what a headset plays; nil for no monitoring.
    init(playout: PlayoutRing?, clock: any StreamClock) {
        self.playout = playout
        self.clock = clock
    }

    /// Whether a notification is of this graph, and not of one already let go of.
    func owns(_ object: Any?) -> Bool { engine != nil && (object as? AVAudioEngine) === engine }

    /// A route may be in change: hardware and node then differ for a moment, and it is tried again.
    func start(_ feed: CaptureFeed) throws -> CaptureFormat {
        var last = HearpackError.audio("The microphone did not start. Close other audio apps and try again.")
        for turn in 0..<Self.tries {
            if turn > 0 { Thread.sleep(forTimeInterval: Self.pauseS) }
            do {
                return try attempt(feed)
            } catch {
                stop()
                last = HearpackError.translating(error) {
                    .audio("The microphone did not start: \($0). Close other audio apps and try again.")
                }
            }
        }
        throw last
    }

    private func attempt(_ feed: CaptureFeed) throws -> CaptureFormat {
        let engine = AVAudioEngine()
        self.engine = engine
        let input = engine.inputNode
        let hardware = input.inputFormat(forBus: 0)
        let format = input.outputFormat(forBus: 0)
        let rate = Int(format.sampleRate.rounded())
        guard format.channelCount >= 1, Resampler.rates.contains(rate) else {
            throw HearpackError.audio(
                "The current input gives \(format.channelCount) channels at \(rate) Hz; this app takes at least one channel "
                    + "at \(Resampler.rates.lowerBound) to \(Resampler.rates.upperBound) Hz. Choose another microphone.")
        }
        guard hardware.sampleRate == format.sampleRate, hardware.channelCount >= 1 else {
            throw HearpackError.audio(
                "The microphone is changing from \(Int(format.sampleRate)) to \(Int(hardware.sampleRate)) Hz. Try again.")
        }
        feed.rateHz = rate
        let sink = AVAudioSinkNode(receiverBlock: Self.receiver(feed, HostTime(clock)))
        let source = playout.flatMap { playout in
            AVAudioFormat(standardFormatWithSampleRate: Double(playout.rateHz), channels: 1).map {
                (node: AVAudioSourceNode(format: $0, renderBlock: Self.renderer(playout, clock)), format: $0)
            }
        }
        let raised = hearpack_try {
            engine.attach(sink)
            engine.connect(input, to: sink, format: format)
            if let source {
                engine.attach(source.node)
                engine.connect(source.node, to: engine.mainMixerNode, format: source.format)
            }
            engine.prepare()
        }
        if let raised { throw HearpackError.audio("The audio graph was refused: \(raised). Try again.") }
        try engine.start()
        return CaptureFormat(
            rateHz: rate, channels: Int(format.channelCount), blockFrames: AudioSession.blockFrames, format: .float32,
            mode: "measurement", source: "sink")
    }

    func stop() {
        engine?.stop()
        engine = nil
    }

    private static func receiver(_ feed: CaptureFeed, _ time: HostTime) -> AVAudioSinkNodeReceiverBlock {
        { stamp, frames, list in
            // One buffer a channel, float32: the first microphone channel is ours.
            guard let data = list.pointee.mBuffers.mData else { return 0 }
            feed.deliver(
                data.assumingMemoryBound(to: Float.self), Int(frames),
                hardwareTimeNs: stamp.pointee.mFlags.contains(.hostTimeValid) ? time.ns(stamp.pointee.mHostTime) : -1,
                hardwareFrame: stamp.pointee.mFlags.contains(.sampleTimeValid) ? Int64(stamp.pointee.mSampleTime) : -1)
            return 0
        }
    }

    private static func renderer(_ playout: PlayoutRing, _ clock: any StreamClock) -> AVAudioSourceNodeRenderBlock {
        { _, _, frames, list in
            guard let data = list.pointee.mBuffers.mData else { return 0 }
            playout.read(SampleBlock(start: data.assumingMemoryBound(to: Float.self), count: Int(frames)), clock.nowNs())
            return 0
        }
    }
}

/// The audio hardware's time in the trace's: its clock stops in sleep and has another origin, but no stream spans a sleep.
struct HostTime: Sendable {
    private let nsPerTick: Double
    private let offsetNs: Int64

    init(_ clock: any StreamClock) {
        nsPerTick = AVAudioTime.seconds(forHostTime: 1_000_000_000)
        offsetNs = clock.nowNs() - Int64(Double(mach_absolute_time()) * nsPerTick)
    }

    func ns(_ hostTime: UInt64) -> Int64 { max(0, Int64(Double(hostTime) * nsPerTick) + offsetNs) }
}
#endif
