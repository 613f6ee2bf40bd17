/// What matters of a route to a stream.
public struct AudioRoute: Equatable, Sendable {
    /// Whether enhanced sound may be played there: a loudspeaker beside the microphone howls.
    public enum Monitoring: Equatable, Sendable {
        case allowed
        /// It may be a headset, or a loudspeaker or a car: only the user knows.
        case ask
        case refused
    }

    public let input: DeviceTrace.Port
    public let output: DeviceTrace.Port
    /// The output's own name for itself, to remember what the user said of it; empty if there is none.
    public let outputID: String
    public let rateHz: Int
    public let modelRateHz: Int

    public init(input: DeviceTrace.Port, output: DeviceTrace.Port, outputID: String = "", rateHz: Int, modelRateHz: Int) {
        self.input = input
        self.output = output
        self.outputID = outputID
        self.rateHz = rateHz
        self.modelRateHz = modelRateHz
    }

    public var monitoring: Monitoring {
        switch output {
        case .wired, .hearingAid: return .allowed
        case .usb, .bluetoothHFP, .bluetoothLE, .bluetoothA2DP: return .ask
        case .builtIn, .file, .other, .none: return .refused
        }
    }

    /// What the user should know of this microphone; empty if nothing.
    public var notice: HearpackText {
        guard rateHz < modelRateHz else { return .none }
        func khz(_ hz: Int) -> String { hz % 1_000 == 0 ? "\(hz / 1_000)" : "\(Double(hz) / 1_000)" }
        let half = "\(Double(rateHz) / 2_000)"
        if input == .bluetoothHFP {
            return HearpackText(
                "This microphone gives %@ kHz (a Bluetooth headset in call mode); the model expects %@ kHz, so "
                    + "everything above %@ kHz is missing and results are worse. Choose the built-in or a wired "
                    + "microphone.",
                khz(rateHz), khz(modelRateHz), half)
        }
        return HearpackText(
            "This microphone gives %@ kHz; the model expects %@ kHz, so everything above %@ kHz is missing and "
                + "results are worse. Choose the built-in or a wired microphone.",
            khz(rateHz), khz(modelRateHz), half)
    }
}
