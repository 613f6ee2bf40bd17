#if canImport(AVFoundation) && !os(macOS)
@preconcurrency import AVFoundation
import HearpackKit

/// AVAudioSession in our words; not for the main actor, as its calls wait for other processes. What is asked for is a hint to the system: everything is read back after activation.
enum AudioSession {
    /// Asked for: the rate of nearly every iPhone's codec, and blocks of about 5 ms.
    static let wantedRateHz = 48_000
    static let wantedBlockFrames = 256

    /// Ask the user once; later calls answer at once.
    static func requestPermission() async -> Bool {
        if #available(iOS 17.0, macOS 14.0, *) { return await AVAudioApplication.requestRecordPermission() }
        return await withCheckedContinuation { answer in
            AVAudioSession.sharedInstance().requestRecordPermission { answer.resume(returning: $0) }
        }
    }

    /// `.measurement`: no automatic gain, no noise suppression of the system's own. Bluetooth only as A2DP output, so that
    /// headphones never pull the microphone down to a call's 8 or 16 kHz.
    ///
    /// - Throws: `audio`: another app holds the session, or the mode is refused.
    static func activate(task: Manifest.Task) throws {
        let session = AVAudioSession.sharedInstance()
        do {
            if task == .classifier {
                try session.setCategory(.record, mode: .measurement)
            } else {
                try session.setCategory(.playAndRecord, mode: .measurement, options: [.allowBluetoothA2DP])
            }
            try session.setPreferredSampleRate(Double(wantedRateHz))
            try session.setPreferredIOBufferDuration(Double(wantedBlockFrames) / Double(wantedRateHz))
            try session.setActive(true)
        } catch {
            throw HearpackError.translating(error) {
                .audio(
                    "The microphone cannot be used now: another app (a call, for instance) may hold it. Try again when it is done. (\($0))"
                )
            }
        }
    }

    /// For the comparison, when no stream runs.
    static func activatePlayback() throws {
        let session = AVAudioSession.sharedInstance()
        try session.setCategory(.playback, mode: .default)
        try session.setActive(true)
    }

    static func deactivate() {
        // It fails while another app is about to take over; there is nothing to do about it then.
        try? AVAudioSession.sharedInstance().setActive(false, options: [.notifyOthersOnDeactivation])
    }

    static var blockFrames: Int {
        let session = AVAudioSession.sharedInstance()
        return Int((session.ioBufferDuration * session.sampleRate).rounded())
    }

    static var inputLatencyMs: Double { AVAudioSession.sharedInstance().inputLatency * 1_000 }
    static var outputLatencyMs: Double { AVAudioSession.sharedInstance().outputLatency * 1_000 }

    static func route(modelRateHz: Int) -> AudioRoute {
        let session = AVAudioSession.sharedInstance()
        return AudioRoute(
            input: port(session.currentRoute.inputs.first?.portType),
            output: port(session.currentRoute.outputs.first?.portType),
            outputID: session.currentRoute.outputs.first?.uid ?? "", rateHz: Int(session.sampleRate.rounded()),
            modelRateHz: modelRateHz)
    }

    static func traceRoute(timeNs: Int64, reason: String?) -> DeviceTrace.Route {
        let route = route(modelRateHz: 0)
        let session = AVAudioSession.sharedInstance()
        return DeviceTrace.Route(
            timeNs: timeNs, input: route.input, output: route.output, rateHz: route.rateHz, reason: reason,
            systemInputLatencyNs: Int64(session.inputLatency * 1e9),
            systemOutputLatencyNs: Int64(session.outputLatency * 1e9))
    }

    static func traceGain(timeNs: Int64) -> DeviceTrace.Gain {
        DeviceTrace.Gain(timeNs: timeNs, system: Double(AVAudioSession.sharedInstance().inputGain), automatic: false)
    }

    private static func port(_ type: AVAudioSession.Port?) -> DeviceTrace.Port {
        guard let type else { return .none }
        if [.builtInMic, .builtInSpeaker, .builtInReceiver].contains(type) { return .builtIn }
        if [.headsetMic, .headphones, .lineIn].contains(type) { return .wired }
        if type == .usbAudio { return .usb }
        if type == .bluetoothHFP { return .bluetoothHFP }
        if type == .bluetoothA2DP { return .bluetoothA2DP }
        if type == .bluetoothLE { return .bluetoothLE }
        return .other  // line out, cars, AirPlay, HDMI
    }
}

/// What the system reports, as actions of the reducer.
enum AudioNotifications {
    static func interruption(_ note: Notification) -> HearpackAction? {
        guard let raw = note.userInfo?[AVAudioSessionInterruptionTypeKey] as? UInt,
            let type = AVAudioSession.InterruptionType(rawValue: raw)
        else { return nil }
        switch type {
        case .began: return .interruptionBegan(reason(note))
        case .ended:
            let options = note.userInfo?[AVAudioSessionInterruptionOptionKey] as? UInt ?? 0
            return .interruptionEnded(mayResume: AVAudioSession.InterruptionOptions(rawValue: options).contains(.shouldResume))
        @unknown default: return nil
        }
    }

    private static func reason(_ note: Notification) -> HearpackAction.Interruption {
        // AVAudioSession.InterruptionReason; by number, as the last is newer than iOS 16.
        switch note.userInfo?[AVAudioSessionInterruptionReasonKey] as? UInt {
        case 1: return .suspended
        case 2: return .microphoneMuted
        case 4: return .routeDisconnected
        default: return .other
        }
    }

    /// The reason's name where a device came or went; nil for changes that we caused ourselves.
    static func routeChange(_ note: Notification) -> String? {
        guard let raw = note.userInfo?[AVAudioSessionRouteChangeReasonKey] as? UInt,
            let reason = AVAudioSession.RouteChangeReason(rawValue: raw)
        else { return nil }
        switch reason {
        case .newDeviceAvailable: return "newDeviceAvailable"
        case .oldDeviceUnavailable: return "oldDeviceUnavailable"
        case .override: return "override"
        case .wakeFromSleep: return "wakeFromSleep"
        case .noSuitableRouteForCategory: return "noSuitableRouteForCategory"
        default: return nil
        }
    }
}
#endif
