@preconcurrency import AVFoundation
import HearpackKit

/// The microphone by AVAudioEngine: a sink node for the enhancer (small blocks), a tap for the classifier (100 ms and more,
/// and it does not matter there). Samples go on as they come, at the device's rate: the kit's own resampler follows.
///
/// Blocks are made in static functions, outside of any actor: a closure written on the main actor would be checked for it
/// on the audio thread, and end the app.
final class MicrophoneCapture: CaptureSource {
    private let engine = AVAudioEngine()
    private let useSink: Bool
    private let clock: any Clock
    private let playout: PlayoutRing?

    /// - Parameters:
    ///   - task: the enhancer gets a sink node, the classifier a tap.
    ///   - playout: what a headset plays; nil for no monitoring.
    init(task: Manifest.Task, playout: PlayoutRing?, clock: any Clock) {
        useSink = task != .classifier
        self.playout = playout
        self.clock = clock
    }

    /// The engine whose configuration changes are of interest.
    var observed: AVAudioEngine { engine }

    func start(_ feed: CaptureFeed) throws -> CaptureFormat {
        let input = engine.inputNode
        let format = input.outputFormat(forBus: 0)
        let rate = Int(format.sampleRate.rounded())
        guard format.channelCount >= 1, Resampler.rates.contains(rate) else {
            throw HearpackError.audio(
                "The current input gives \(format.channelCount) channels at \(rate) Hz; this app takes at least one channel "
                    + "at \(Resampler.rates.lowerBound) to \(Resampler.rates.upperBound) Hz. Choose another microphone.")
        }
        feed.rateHz = rate
        let time = HostTime(clock)
        if useSink {
            let sink = AVAudioSinkNode(receiverBlock: Self.receiver(feed, time))
            engine.attach(sink)
            engine.connect(input, to: sink, format: format)
        } else {
            input.installTap(onBus: 0, bufferSize: 4_800, format: format, block: Self.tap(feed, time))
        }
        if let playout, let mono = AVAudioFormat(standardFormatWithSampleRate: Double(rate), channels: 1) {
            let source = AVAudioSourceNode(format: mono, renderBlock: Self.renderer(playout, clock))
            engine.attach(source)
            engine.connect(source, to: engine.mainMixerNode, format: mono)
        }
        engine.prepare()
        do {
            try engine.start()
        } catch {
            throw translated(error) { .audio("The microphone did not start: \($0). Close other audio apps and try again.") }
        }
        return CaptureFormat(
            rateHz: rate, channels: Int(format.channelCount), blockFrames: AudioSession.blockFrames, format: .float32,
            mode: "measurement", source: useSink ? "sink" : "tap")
    }

    func stop() {
        if !useSink { engine.inputNode.removeTap(onBus: 0) }
        engine.stop()
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

    private static func tap(_ feed: CaptureFeed, _ time: HostTime) -> AVAudioNodeTapBlock {
        { buffer, when in
            guard let channels = buffer.floatChannelData else { return }
            feed.deliver(
                channels[0], Int(buffer.frameLength), hardwareTimeNs: when.isHostTimeValid ? time.ns(when.hostTime) : -1,
                hardwareFrame: when.isSampleTimeValid ? when.sampleTime : -1)
        }
    }

    private static func renderer(_ playout: PlayoutRing, _ clock: any Clock) -> AVAudioSourceNodeRenderBlock {
        { _, _, frames, list in
            guard let data = list.pointee.mBuffers.mData else { return 0 }
            playout.read(Block(start: data.assumingMemoryBound(to: Float.self), count: Int(frames)), clock.nowNs())
            return 0
        }
    }
}

/// The audio hardware's time in the trace's: its clock stops in sleep and has another origin, but no stream spans a sleep.
struct HostTime: Sendable {
    private let nsPerTick: Double
    private let offsetNs: Int64

    init(_ clock: any Clock) {
        nsPerTick = AVAudioTime.seconds(forHostTime: 1_000_000_000)
        offsetNs = clock.nowNs() - Int64(Double(mach_absolute_time()) * nsPerTick)
    }

    func ns(_ hostTime: UInt64) -> Int64 { max(0, Int64(Double(hostTime) * nsPerTick) + offsetNs) }
}
