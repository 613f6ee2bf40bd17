package hearpack.tests

import hearpack.core.audio.CaptureFault
import hearpack.core.audio.Monitoring
import hearpack.core.audio.Muted
import hearpack.core.audio.Output
import hearpack.core.audio.OutputDevice
import hearpack.core.audio.Port
import hearpack.core.bundle.BundleFault
import hearpack.core.bundle.ComputeUnit
import hearpack.core.stream.EngineInfo
import hearpack.core.stream.Failure
import hearpack.core.stream.SelfCheckReport
import hearpack.core.stream.SoundEvent
import hearpack.core.trace.ColdStart
import hearpack.core.ui.ModelPhase
import hearpack.core.ui.NoticeAction
import hearpack.core.ui.NoticeKind
import hearpack.core.ui.Page
import hearpack.core.ui.Permission
import hearpack.core.ui.StreamPhase
import hearpack.core.ui.UiEvent
import hearpack.core.ui.UiState
import hearpack.core.ui.reduce
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertNull
import kotlin.test.assertTrue

/** Each thing that can go wrong has its message, and a way on where there is one. */
class ScreenTest {
    private fun state(
        vararg events: UiEvent,
        from: UiState = UiState(),
    ) = events.fold(from) { state, event -> reduce(state, event) }

    private val cpu = EngineInfo("litert", "2.3.0", ComputeUnit.CPU, ComputeUnit.CPU, "XNNPACK")

    private fun ready(page: Page = Page.LISTEN) = UiEvent.EngineReady(page, "yamnet", cpu, emptyList(), ColdStart())

    private val running =
        state(ready(), UiEvent.PermissionGranted, UiEvent.StartPressed, UiEvent.Opened(opened(48000, 192)))

    @Test fun everyFaultOfABundleHasItsOwnMessageThatStopsThePage() {
        val kinds =
            BundleFault.entries.map { fault ->
                val s = state(UiEvent.BundleRefused(Page.LISTEN, fault, "why"))
                assertEquals(ModelPhase.BROKEN, s.model.phase)
                assertFalse(s.canStart)
                assertEquals("why", s.shown?.detail)
                assertEquals(true, s.shown?.blocking)
                s.shown?.kind
            }
        assertEquals(BundleFault.entries.size, kinds.toSet().size)
        assertEquals(
            NoticeKind.BUNDLE_NEWER_SCHEMA,
            state(UiEvent.BundleRefused(Page.LISTEN, BundleFault.NEWER_SCHEMA, "")).shown?.kind,
        )
        assertEquals(NoticeKind.BUNDLE_ABSENT, state(UiEvent.BundleAbsent(Page.LISTEN)).shown?.kind)
        assertNull(state(UiEvent.BundleAbsent(Page.ENHANCE)).shown) // the other page's trouble
    }

    @Test fun anotherBundleBeginsItsPageAnewAndLeavesTheOtherAsItIs() {
        val names = listOf("yamnet", "own\u202emodel")
        val before = state(ready(), ready(Page.ENHANCE), UiEvent.Stopped(true), from = running)
        val chosen = state(UiEvent.BundleChosen(Page.LISTEN, names, names[1]), from = before)
        assertEquals(ModelPhase.LOADING, chosen.model.phase)
        assertFalse(chosen.canChoose || chosen.canStart || chosen.canShare || chosen.canCompare)
        assertFalse('\u202e' in chosen.model.name || '\u202e' in chosen.model.choices[1])
        assertEquals(Permission.GRANTED, chosen.permission)
        assertEquals(ModelPhase.READY, chosen.models.getValue(Page.ENHANCE).phase)
        assertTrue(state(ready(), from = chosen).canChoose)
        assertTrue(state(UiEvent.EngineRefused(Page.LISTEN, ""), from = chosen).canChoose) // the other one may run
        assertFalse(state(ready(), UiEvent.StartPressed, from = chosen).canChoose)
        assertFalse(state(UiEvent.BundleChosen(Page.LISTEN, names.take(1), names[0]), ready()).canChoose)
    }

    @Test fun aDeniedPermissionMayBeAskedAgainAndOneDeniedForGoodLeadsToTheSettings() {
        val once = state(ready(), UiEvent.PermissionDenied(canAskAgain = true))
        assertEquals(NoticeKind.PERMISSION_DENIED, once.shown?.kind)
        assertEquals(NoticeAction.ASK_AGAIN, once.shown?.action)
        val forGood = state(UiEvent.PermissionDenied(canAskAgain = false), from = once)
        assertEquals(NoticeKind.PERMISSION_DENIED_FOR_GOOD, forGood.shown?.kind)
        assertEquals(NoticeAction.OPEN_SETTINGS, forGood.shown?.action)
        assertEquals(StreamPhase.IDLE, state(UiEvent.StartPressed, from = forGood).stream)
        val granted = state(UiEvent.PermissionGranted, from = forGood)
        assertNull(granted.shown)
        assertEquals(StreamPhase.STARTING, state(UiEvent.StartPressed, from = granted).stream)
        val revoked = state(UiEvent.Failed(Failure(CaptureFault.NO_PERMISSION, "")), from = running)
        assertEquals(Permission.DENIED, revoked.permission)
        assertEquals(StreamPhase.IDLE, revoked.stream)
    }

    @Test fun aTakenMicrophoneIsNamedAndMayBeTriedAgain() {
        val taken = state(UiEvent.Stopped(false), UiEvent.Failed(Failure(CaptureFault.TAKEN, "held")), from = running)
        assertEquals(NoticeKind.MIC_TAKEN, taken.shown?.kind)
        assertEquals(NoticeAction.TRY_AGAIN, taken.shown?.action)
        assertTrue(taken.canStart && taken.canShare)
        val other = state(UiEvent.Failed(Failure(CaptureFault.UNAVAILABLE, "")), from = running)
        assertEquals(NoticeKind.MIC_UNAVAILABLE, other.shown?.kind)
        val engine = state(UiEvent.Failed(Failure(null, "LiteRT cannot run")), from = running)
        assertEquals(NoticeKind.STREAM_FAILED, engine.shown?.kind)
        assertEquals("LiteRT cannot run", engine.shown?.detail)
    }

    @Test fun silencingComesAndGoes() {
        val silenced = state(UiEvent.Silenced(true), from = running)
        assertEquals(NoticeKind.MIC_SILENCED, silenced.shown?.kind)
        assertEquals(StreamPhase.RUNNING, silenced.stream)
        assertNull(state(UiEvent.Silenced(false), from = silenced).shown)
    }

    @Test fun aRouteChangeIsToldAndTheStreamGoesOn() {
        val changed = state(UiEvent.Opened(opened(16000, 160, Port.BLUETOOTH_HFP, Port.BLUETOOTH_HFP)), from = running)
        assertEquals(NoticeKind.ROUTE_CHANGED, changed.shown?.kind)
        assertEquals(StreamPhase.RUNNING, changed.stream)
        assertEquals(Port.BLUETOOTH_HFP, changed.opened?.port)
    }

    @Test fun aRefusedAcceleratorIsToldWithItsReasonAndDoesNotStopThePage() {
        val refused = UiEvent.EngineReady(Page.LISTEN, "m", cpu, listOf(ComputeUnit.GPU to "no OpenCL"), ColdStart())
        val s = state(refused)
        assertEquals(NoticeKind.ACCELERATOR_REFUSED, s.shown?.kind)
        assertTrue("no OpenCL" in s.shown!!.detail)
        assertTrue(s.canStart)
        val none = state(UiEvent.EngineRefused(Page.LISTEN, "no unit"))
        assertEquals(NoticeKind.ENGINE_REFUSED, none.shown?.kind)
        assertFalse(none.canStart)
    }

    @Test fun aFailedSelfCheckNamesTheFrame() {
        val result = SelfCheckReport(2, "snr_db", 31.5, 110.0, 30, 3.0, 0)
        val checking = state(ready(), UiEvent.Checking(Page.LISTEN, 0.5))
        assertFalse(checking.canStart)
        val failed = state(UiEvent.SelfChecked(Page.LISTEN, result), from = checking)
        assertEquals(NoticeKind.SELF_CHECK_FAILED, failed.shown?.kind)
        assertEquals(30, failed.model.selfCheck?.firstBadFrame)
        assertFalse(failed.canStart, "what it would show is not the model's")
        assertEquals(NoticeAction.TRY_AGAIN, failed.shown?.action)
        val passed = state(UiEvent.SelfChecked(Page.LISTEN, result.copy(firstBadFrame = null)), from = checking)
        assertNull(passed.shown)
    }

    @Test fun withoutAHeadsetEnhanceSaysWhyNothingIsHeard() {
        val page =
            state(
                ready(Page.ENHANCE),
                UiEvent.PageChosen(Page.ENHANCE),
                UiEvent.PermissionGranted,
                UiEvent.StartPressed,
            )
        val speaker = state(UiEvent.Opened(opened(output = Port.BUILT_IN)), from = page)
        assertEquals(NoticeKind.MONITOR_NEEDS_HEADSET, speaker.shown?.kind)
        val headset = state(UiEvent.Opened(opened(output = Port.WIRED)), from = page)
        assertNull(headset.shown)
        assertTrue(state(UiEvent.Stopped(true), from = headset).canCompare)
    }

    @Test fun theGuardAsksTellsAndKeepsQuiet() {
        val page =
            state(
                ready(Page.ENHANCE),
                UiEvent.PageChosen(Page.ENHANCE),
                UiEvent.PermissionGranted,
                UiEvent.StartPressed,
                UiEvent.Opened(opened(output = Port.WIRED)),
            )
        val car = OutputDevice(8, "Car")
        val asking = Output(Port.BLUETOOTH_A2DP, Monitoring.ASK, car)
        val asked = state(UiEvent.OutputChanged(asking, Muted.ROUTE), from = page)
        assertEquals(NoticeKind.CONFIRM_HEADSET to "Car", asked.shown?.let { it.kind to it.detail })
        assertEquals(NoticeAction.CONFIRM_HEADSET, asked.shown?.action)
        val wired = Output(Port.WIRED, Monitoring.ALLOWED)
        assertNull(state(UiEvent.OutputChanged(wired, null), from = asked).shown)
        val kinds =
            listOf(
                Muted.NOISY,
                Muted.FOCUS,
            ).map { state(UiEvent.OutputChanged(wired, it), from = page).shown?.kind }
        assertEquals(listOf(NoticeKind.OUTPUT_LOST, NoticeKind.FOCUS_LOST), kinds)
        val dead = state(UiEvent.SpeakerFailed("dead object"), from = page)
        assertEquals(NoticeKind.SPEAKER_FAILED, dead.shown?.kind)
        assertEquals(StreamPhase.RUNNING, dead.stream)
        assertNull(
            state(UiEvent.OutputChanged(asking, Muted.ROUTE), from = running).shown,
            "a classifier plays nothing",
        )
    }

    @Test fun stoppingIsAPhaseOfItsOwnAndAStopWhileStartingEndsIt() {
        val stopping = state(UiEvent.StopPressed, from = running)
        assertEquals(StreamPhase.STOPPING, stopping.stream)
        assertFalse(stopping.canStart)
        assertEquals(StreamPhase.STOPPING, state(UiEvent.Opened(opened()), from = stopping).stream)
        assertEquals(StreamPhase.IDLE, state(UiEvent.Stopped(false), from = stopping).stream)
        val starting = state(ready(), UiEvent.PermissionGranted, UiEvent.StartPressed)
        assertEquals(StreamPhase.IDLE, state(UiEvent.Stopped(false), from = starting).stream)
        assertEquals(StreamPhase.IDLE, state(UiEvent.StopPressed).stream, "nothing runs")
    }

    @Test fun whatTurnedOnLastIsSaidAndWhatEndsIsNot() {
        val bell = SoundEvent("Bell", 1, 16000, null, 0.5, 24000)
        val on = state(came(bell), from = running)
        assertEquals("Bell", on.newest?.label)
        val off = state(came(bell.copy(offsetSample = 32000)), from = on)
        assertEquals(on.newest, off.newest)
        assertEquals("Dog", state(came(bell.copy(label = "Dog")), from = off).newest?.label)
    }

    @Test fun timesGoOnWhenTheMicrophoneIsOpenedAgain() {
        val later = SoundEvent("Bell", 1, 0, 8000, 0.5, 24000, offsetOfRoute = 160_000)
        val row = state(came(later), from = running).events.single()
        assertEquals(10.0 to 11.0, row.onsetSeconds to row.offsetSeconds)
    }

    @Test fun labelsAppearWhenTheyBeginAndTheSameRowEnds() {
        val begun = SoundEvent("Bell", 1, 16000, null, 0.5, 24000)
        val on = state(came(begun), from = running)
        assertEquals(1.0, on.events.single().onsetSeconds)
        assertNull(on.events.single().offsetSeconds)
        val ended = came(begun.copy(offsetSample = 32000, confidence = 0.9))
        val off = state(came(begun.copy(label = "Dog")), ended, from = on)
        // It lasts to the end of its last window's hop.
        assertEquals(listOf("Dog" to null, "Bell" to 2.5), off.events.map { it.label to it.offsetSeconds })
        val first = state(came(begun.copy(onsetSample = 8000, offsetSample = 8000)), from = running).events.single()
        assertEquals(0.0 to 1.0, first.onsetSeconds to first.offsetSeconds) // on in the first window
    }

    private fun came(event: SoundEvent) = UiEvent.EventCame(event, 16000, 8000, 16000)

    @Test fun aPageIsNotChangedWhileAStreamRuns() {
        assertEquals(Page.LISTEN, state(UiEvent.PageChosen(Page.ENHANCE), from = running).page)
        val stopped = state(UiEvent.Stopped(false), UiEvent.PageChosen(Page.ENHANCE), from = running)
        assertEquals(Page.ENHANCE, stopped.page)
        assertFalse(state(UiEvent.StartPressed, from = stopped).stream == StreamPhase.STARTING) // no model
    }
}
