import HearpackKit
import SwiftUI

/// Enhance: live, to be heard on a headset only, because a loudspeaker howls.
struct EnhanceSections: View {
    @ObservedObject var model: AppModel

    var body: some View {
        InputMeterSection(level: model.figures.level)
        Section("Output") {
            Label(
                model.state.monitoring ? "Playing to the headset" : "Not played: connect a headset",
                systemImage: model.state.monitoring ? "headphones" : "speaker.slash")
            if let playout = model.figures.playout {
                FigureRow(name: "Underruns", value: "\(playout.underruns) (\(playout.underrun) samples)")
                FigureRow(name: "Dropped", value: "\(playout.dropped) samples")
            }
        }
    }
}

/// A name and its figure, read as one.
struct FigureRow: View {
    let name: String
    let value: String

    var body: some View {
        HStack {
            Text(name)
            Spacer()
            Text(value).font(.body.monospacedDigit()).foregroundStyle(.secondary)
        }
        .accessibilityElement(children: .combine)
    }
}
