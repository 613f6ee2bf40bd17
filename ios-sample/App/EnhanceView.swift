import HearpackAudio
import HearpackKit
import SwiftUI

/// Enhance: live, to be heard on a headset only, because a loudspeaker howls; afterwards the last 30 s, before and after.
struct EnhanceSections: View {
    @ObservedObject var model: AppModel
    @ObservedObject var live: LiveFigures

    var body: some View {
        InputMeterSection(level: live.figures.level)
        Section(say("Output")) {
            Label(
                model.state.monitoring ? say("Playing to the headset") : say("Not played: connect a headset"),
                systemImage: model.state.monitoring ? "headphones" : "speaker.slash")
            if let playout = live.figures.playout {
                FigureRow(name: say("Underruns"), value: say("%@ (%@ samples)", "\(playout.underruns)", "\(playout.underrun)"))
                FigureRow(name: say("Dropped"), value: say("%@ samples", "\(playout.dropped)"))
            }
        }
        if let result = model.result, let clip = result.comparison, !clip.original.isEmpty, model.state.canStart {
            ComparisonSection(
                player: ComparisonPlayer(model.hearpack, clip.original, clip.enhanced, sampleRateHz: result.sampleRateHz))
        }
    }
}

/// A name and its figure, read as one; one below the other where the text is large.
struct FigureRow: View {
    let name: String
    let value: String

    var body: some View {
        ViewThatFits {
            HStack {
                Text(name)
                Spacer()
                figure
            }
            VStack(alignment: .leading) {
                Text(name)
                figure
            }
        }
        .accessibilityElement(children: .combine)
    }

    private var figure: some View { Text(value).font(.body.monospacedDigit()).foregroundStyle(.secondary) }
}
