package hearpack.app

import android.Manifest
import android.app.Activity
import android.app.AlertDialog
import android.content.ClipData
import android.content.Intent
import android.content.pm.PackageManager
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.provider.Settings
import android.view.View
import hearpack.core.ui.NoticeAction
import hearpack.core.ui.Page
import hearpack.core.ui.StreamPhase
import hearpack.core.ui.UiEvent
import java.io.File

private const val ASKED = 1
private const val EXPLAINED = "explained"
private const val POST_NOTIFICATIONS = "android.permission.POST_NOTIFICATIONS" // API 33

/** The two screens; all that they show is in the controller's state. */
class MainActivity : Activity() {
    private lateinit var screen: Screen
    private val controller: Controller get() = (application as HearpackApp).controller

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        screen = Screen(this)
        onClick(R.id.page_listen) { controller.send(UiEvent.PageChosen(Page.LISTEN)) }
        onClick(R.id.page_enhance) { controller.send(UiEvent.PageChosen(Page.ENHANCE)) }
        onClick(R.id.pick) { pick() }
        onClick(R.id.start) { startOrStop() }
        onClick(R.id.play_a) { controller.compare(enhanced = false) }
        onClick(R.id.play_b) { controller.compare(enhanced = true) }
        onClick(R.id.share) { controller.writeTrace(::share) }
        onClick(R.id.notice_action) { act() }
        onClick(R.id.notice_other) { controller.answer(isHeadset = false) }
    }

    private fun onClick(
        id: Int,
        action: () -> Unit,
    ) = (findViewById(id) as View).setOnClickListener { action() }

    override fun onStart() {
        super.onStart()
        controller.onState = screen::show
        // The permission may have been given or taken in the settings meanwhile.
        if (mayRecord()) controller.send(UiEvent.PermissionGranted)
        screen.show(controller.state)
    }

    override fun onStop() {
        controller.onState = null
        super.onStop()
    }

    private fun mayRecord() = checkSelfPermission(Manifest.permission.RECORD_AUDIO) == PackageManager.PERMISSION_GRANTED

    /** Which bundle the page runs, where several are installed. */
    private fun pick() {
        val page = controller.state.page
        AlertDialog
            .Builder(this)
            .setTitle(R.string.pick_title)
            .setItems(
                controller.state.model.choices
                    .toTypedArray(),
            ) { _, which -> controller.choose(page, which) }
            .show()
    }

    private fun startOrStop() {
        if (controller.state.stream != StreamPhase.IDLE) controller.stop() else startOrAsk()
    }

    private fun startOrAsk() {
        if (mayRecord()) {
            controller.send(UiEvent.PermissionGranted)
            controller.start()
        } else {
            ask()
        }
    }

    private fun ask() {
        val wanted = mutableListOf(Manifest.permission.RECORD_AUDIO)
        if (Build.VERSION.SDK_INT >= 33) wanted += POST_NOTIFICATIONS
        requestPermissions(wanted.toTypedArray(), ASKED)
    }

    override fun onRequestPermissionsResult(
        requestCode: Int,
        permissions: Array<String>,
        grantResults: IntArray,
    ) {
        if (requestCode != ASKED || permissions.isEmpty()) return // empty: the question was interrupted
        if (mayRecord()) {
            startOrAsk()
        } else {
            // After a dismissed question the system explains as little as after a refusal for good: that one it is only
            // where a reason was to be given once.
            val answers = getSharedPreferences("permission", MODE_PRIVATE)
            val explain = shouldShowRequestPermissionRationale(Manifest.permission.RECORD_AUDIO)
            val again = explain || !answers.getBoolean(EXPLAINED, false)
            if (explain) answers.edit().putBoolean(EXPLAINED, true).apply()
            controller.send(UiEvent.PermissionDenied(canAskAgain = again))
        }
    }

    private fun act() {
        when (controller.state.shown?.action) {
            NoticeAction.ASK_AGAIN -> {
                ask()
            }

            NoticeAction.OPEN_SETTINGS -> {
                val app = Uri.fromParts("package", packageName, null)
                startActivity(Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, app))
            }

            NoticeAction.TRY_AGAIN -> {
                if (controller.state.canStart) startOrAsk() else controller.load(controller.state.page)
            }

            NoticeAction.CONFIRM_HEADSET -> {
                controller.answer(isHeadset = true)
            }

            NoticeAction.NONE, null -> {}
        }
    }

    private fun share(file: File) {
        val uri = TraceProvider.uri(this, file)
        val send =
            Intent(Intent.ACTION_SEND).apply {
                type = TraceProvider.MIME
                putExtra(Intent.EXTRA_STREAM, uri)
                clipData = ClipData.newRawUri(file.name, uri)
                addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
            }
        startActivity(Intent.createChooser(send, getString(R.string.share)))
    }
}
